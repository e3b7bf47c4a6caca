//! The kinds of fault that only the simulation has.

use crate::fault::{Aftermath, Family, Harm, Kills, Kind, Needs};

/// A panic in one attempt; its worker continues.
pub(crate) const WORKER_PANIC: Kind = Kind {
    name: "worker.panic",
    family: Family::Worker,
    about: "one attempt panics inside its worker",
    needs: Needs::NOTHING,
    harm: Harm {
        kills: Kills::OneAttempt,
        stops_workers: false,
        expires_leases: false,
        loses_settles: false,
        loses_presence: false,
        loses_requests: false,
        withholds_responses: false,
        exhausts_machine: false,
        logs_errors: false,
        denies_database: false,
        abandons_max: 1,
        aftermath: Aftermath::Leases { attempts: 1 },
    },
};
/// Local exhaustion: a worker has no socket, or no port for one receiver.
pub(crate) const WORKER_SHORT: Kind = Kind {
    name: "worker.short",
    family: Family::Worker,
    about: "the machine of a worker has no socket, or no port for one receiver",
    needs: Needs::NOTHING,
    harm: Harm {
        kills: Kills::Nothing,
        stops_workers: false,
        expires_leases: false,
        loses_settles: false,
        loses_presence: false,
        loses_requests: false,
        withholds_responses: false,
        exhausts_machine: true,
        logs_errors: false,
        denies_database: false,
        abandons_max: 0,
        aftermath: Aftermath::Nothing,
    },
};
/// The presence connection of a worker is cut while the worker runs.
pub(crate) const PRESENCE_CUT: Kind = Kind {
    name: "presence.cut",
    family: Family::Presence,
    about: "the presence connection of a worker is cut",
    needs: Needs::NOTHING,
    harm: Harm {
        kills: Kills::Nothing,
        stops_workers: false,
        expires_leases: false,
        loses_settles: false,
        loses_presence: true,
        loses_requests: false,
        withholds_responses: false,
        exhausts_machine: false,
        logs_errors: false,
        denies_database: false,
        abandons_max: 1,
        aftermath: Aftermath::Leases { attempts: 1 },
    },
};
/// One call of a worker to the store fails, before or after its commit.
pub(crate) const STORE_ERROR: Kind = Kind {
    name: "store.error",
    family: Family::Store,
    about: "a call to the store fails, before or after its commit",
    needs: Needs::NOTHING,
    harm: Harm {
        kills: Kills::Nothing,
        stops_workers: false,
        expires_leases: false,
        loses_settles: true,
        loses_presence: false,
        loses_requests: false,
        withholds_responses: false,
        exhausts_machine: false,
        logs_errors: false,
        denies_database: false,
        abandons_max: 1,
        aftermath: Aftermath::Leases { attempts: 1 },
    },
};
/// One call of a worker to the store, or its reply, is late.
pub(crate) const STORE_SLOW: Kind = Kind {
    name: "store.slow",
    family: Family::Store,
    about: "a call to the store, or its reply, is late",
    needs: Needs::NOTHING,
    harm: Harm {
        kills: Kills::Nothing,
        stops_workers: false,
        expires_leases: false,
        loses_settles: true,
        loses_presence: false,
        loses_requests: false,
        withholds_responses: false,
        exhausts_machine: false,
        logs_errors: false,
        denies_database: false,
        abandons_max: 1,
        aftermath: Aftermath::Leases { attempts: 1 },
    },
};
/// A constraint of an operator refuses some attempt rows until the end of the run. A worker splits
/// the batch and writes these rows without their texts, so that no event is affected.
pub(crate) const STORE_REFUSE: Kind = Kind {
    name: "store.refuse",
    family: Family::Store,
    about: "a constraint of an operator refuses the error texts of settled attempts",
    needs: Needs::NOTHING,
    harm: Harm {
        kills: Kills::Nothing,
        stops_workers: false,
        expires_leases: false,
        loses_settles: false,
        loses_presence: false,
        denies_database: false,
        loses_requests: false,
        withholds_responses: false,
        exhausts_machine: false,
        logs_errors: false,
        abandons_max: 0,
        aftermath: Aftermath::Nothing,
    },
};
/// Every connection of one worker to the database is cut.
pub(crate) const STORE_CUT: Kind = Kind {
    name: "store.cut",
    family: Family::Store,
    about: "the connections of a worker to the database are cut",
    needs: Needs::NOTHING,
    harm: Harm {
        kills: Kills::Nothing,
        stops_workers: false,
        expires_leases: false,
        loses_settles: true,
        loses_presence: false,
        loses_requests: false,
        withholds_responses: false,
        exhausts_machine: false,
        logs_errors: false,
        denies_database: false,
        abandons_max: 1,
        aftermath: Aftermath::Leases { attempts: 1 },
    },
};
/// The clock of the database jumps, and later jumps back: two leases may expire.
pub(crate) const CLOCK_STEP: Kind = Kind {
    name: "clock.step",
    family: Family::Clock,
    about: "the clock of the database jumps, and later jumps back",
    needs: Needs::NOTHING,
    harm: Harm {
        kills: Kills::Nothing,
        stops_workers: false,
        expires_leases: true,
        loses_settles: false,
        loses_presence: false,
        loses_requests: false,
        withholds_responses: false,
        exhausts_machine: false,
        logs_errors: false,
        denies_database: false,
        abandons_max: 2,
        aftermath: Aftermath::Leases { attempts: 1 },
    },
};
/// The clock of the database runs at another rate for a while.
pub(crate) const CLOCK_DRIFT: Kind = Kind {
    name: "clock.drift",
    family: Family::Clock,
    about: "the clock of the database runs at another rate",
    needs: Needs::NOTHING,
    harm: Harm {
        kills: Kills::Nothing,
        stops_workers: false,
        expires_leases: true,
        loses_settles: false,
        loses_presence: false,
        loses_requests: false,
        withholds_responses: false,
        exhausts_machine: false,
        logs_errors: false,
        denies_database: false,
        abandons_max: 2,
        aftermath: Aftermath::Leases { attempts: 1 },
    },
};
/// One response is lost. The receiver records the loss in `recv.end`, so no harm has to excuse it.
pub(crate) const RESPONSE_LOST: Kind = Kind {
    name: "response.lost",
    family: Family::Response,
    about: "a response is written by the receiver and lost",
    needs: Needs::NOTHING,
    harm: Harm {
        kills: Kills::Nothing,
        stops_workers: false,
        expires_leases: false,
        loses_settles: false,
        loses_presence: false,
        loses_requests: false,
        withholds_responses: false,
        exhausts_machine: false,
        logs_errors: false,
        denies_database: false,
        abandons_max: 0,
        aftermath: Aftermath::Nothing,
    },
};
