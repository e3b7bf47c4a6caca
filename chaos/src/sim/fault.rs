//! The faults of the simulation: plain data, each with when it strikes.
//!
//! A fault strikes at a time, or at the n-th pass of a named point: every await of the dispatcher is
//! one. Nothing here applies a fault; `world` does.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::fault::{Aftermath, Family, Harm, Kills, Kind, Needs};
use crate::nemesis;

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
        abandons_max: 1,
        aftermath: Aftermath::Leases { attempts: 1 },
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
        abandons_max: 0,
        aftermath: Aftermath::Nothing,
    },
};

/// What a worker asks of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// Storing an event, for a client of the API.
    Insert,
    /// Waiting for its presence.
    Present,
    /// Claiming.
    Claim,
    /// Asking for the next due time.
    NextDue,
    /// One attempt on the wire.
    Attempt,
    /// Settling.
    Settle,
    /// Releasing.
    Release,
    /// Looking for absent holders.
    Absent,
    /// Reclaiming.
    Reclaim,
    /// Forgetting a holder.
    Forget,
}

/// How far a call has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// About to leave the worker.
    Sent,
    /// Committed by the store, or arrived at the receiver; the reply is not yet on its way.
    Applied,
    /// The reply has left; the worker has not seen it.
    Replied,
}

/// A place where the world may strike: a call at a stage; written `claim.applied`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Point {
    /// Which call.
    pub call: Call,
    /// At which stage.
    pub stage: Stage,
}

/// Every call with its name.
pub const CALLS: &[(Call, &str)] = &[
    (Call::Insert, "insert"),
    (Call::Present, "present"),
    (Call::Claim, "claim"),
    (Call::NextDue, "next_due"),
    (Call::Attempt, "attempt"),
    (Call::Settle, "settle"),
    (Call::Release, "release"),
    (Call::Absent, "absent"),
    (Call::Reclaim, "reclaim"),
    (Call::Forget, "forget"),
];

/// Every stage with its name, in order.
pub const STAGES: &[(Stage, &str)] = &[
    (Stage::Sent, "sent"),
    (Stage::Applied, "applied"),
    (Stage::Replied, "replied"),
];

/// One fault of a schedule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedFault {
    /// When it strikes.
    pub on: When,
    /// What is done.
    #[serde(flatten)]
    pub fault: Fault,
}

/// When a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// So many milliseconds after the storm began, at this worker.
    At {
        /// Milliseconds of virtual time.
        ms: u64,
        /// Which worker, where the fault is about one.
        worker: u32,
    },
    /// At the n-th pass of a point, n from 1, at whichever worker passes.
    Pass {
        /// The point.
        point: Point,
        /// Which pass.
        nth: u32,
    },
}

/// What can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "f")]
pub enum Fault {
    /// The worker's process ends without a word; a new one starts later.
    #[serde(rename = "worker.kill")]
    Kill {
        /// Milliseconds until the restart.
        down_ms: u64,
    },
    /// The worker stands still and goes on later.
    #[serde(rename = "worker.pause")]
    Pause {
        /// Milliseconds.
        for_ms: u64,
    },
    /// The worker is told to stop in order; a new one starts later.
    #[serde(rename = "worker.terminate")]
    Stop {
        /// Milliseconds until the restart, from the end.
        down_ms: u64,
    },
    /// An attempt panics inside the worker.
    #[serde(rename = "worker.panic")]
    Panic,
    /// The worker's machine has no socket to give, or no port for this one receiver: attempts are not made.
    #[serde(rename = "worker.short")]
    Short {
        /// Which receiver; all without one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        receiver: Option<u32>,
        /// Milliseconds.
        for_ms: u64,
    },
    /// The worker's presence connection is cut: others see its lock absent although it lives.
    #[serde(rename = "presence.cut")]
    PresenceCut {
        /// Milliseconds until the lock is held again.
        for_ms: u64,
    },
    /// A call of the store ends with an error: before it was applied or after, as its stage says.
    #[serde(rename = "store.error")]
    StoreError,
    /// A call, or its reply, is late. More than the client's deadline is a stall.
    #[serde(rename = "store.slow")]
    StoreSlow {
        /// Milliseconds.
        by_ms: u64,
    },
    /// The worker's connections to the database are cut and cannot be made again for a while.
    #[serde(rename = "store.cut")]
    StoreCut {
        /// Milliseconds.
        for_ms: u64,
    },
    /// The database crashes and comes back: what is committed stays.
    #[serde(rename = "postgres.kill")]
    StoreDown {
        /// Milliseconds.
        for_ms: u64,
    },
    /// The database's clock jumps, and later jumps back.
    #[serde(rename = "clock.step")]
    ClockStep {
        /// Milliseconds, negative into the past.
        by_ms: i64,
        /// Milliseconds until it jumps back.
        for_ms: u64,
    },
    /// The database's clock runs at another rate.
    #[serde(rename = "clock.drift")]
    ClockDrift {
        /// Thousandths, positive is faster.
        per_mille: i64,
        /// Milliseconds until it is set right.
        for_ms: u64,
    },
    /// A receiver refuses connections.
    #[serde(rename = "receiver.refuse")]
    Refuse {
        /// Which receiver.
        receiver: u32,
        /// Milliseconds.
        for_ms: u64,
    },
    /// An answer is written by the receiver and lost on its way.
    #[serde(rename = "response.lost")]
    ResponseLost,
}

impl Fault {
    /// The kind of the fault. A kind that the real tier has, too, is the same value.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Fault::Kill { .. } => nemesis::KillWorker::KIND,
            Fault::Pause { .. } => nemesis::PauseWorker::KIND,
            Fault::Stop { .. } => nemesis::TerminateWorker::KIND,
            Fault::StoreDown { .. } => nemesis::KillPostgres::KIND,
            Fault::Refuse { .. } => nemesis::RefuseReceiver::KIND,
            Fault::Panic => WORKER_PANIC,
            Fault::Short { .. } => WORKER_SHORT,
            Fault::PresenceCut { .. } => PRESENCE_CUT,
            Fault::StoreError => STORE_ERROR,
            Fault::StoreSlow { .. } => STORE_SLOW,
            Fault::StoreCut { .. } => STORE_CUT,
            Fault::ClockStep { .. } => CLOCK_STEP,
            Fault::ClockDrift { .. } => CLOCK_DRIFT,
            Fault::ResponseLost => RESPONSE_LOST,
        }
    }

    /// How long until it is healed, in milliseconds; none for what heals by itself.
    #[must_use]
    pub const fn lasts_ms(&self) -> Option<u64> {
        match self {
            Fault::Kill { .. } | Fault::Stop { .. } => None,
            Fault::Panic | Fault::StoreError | Fault::ResponseLost => Some(0),
            Fault::StoreSlow { by_ms } => Some(*by_ms),
            Fault::Pause { for_ms }
            | Fault::Short { for_ms, .. }
            | Fault::PresenceCut { for_ms }
            | Fault::StoreCut { for_ms }
            | Fault::StoreDown { for_ms }
            | Fault::ClockStep { for_ms, .. }
            | Fault::ClockDrift { for_ms, .. }
            | Fault::Refuse { for_ms, .. } => Some(*for_ms),
        }
    }
}

impl Call {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        let found = CALLS.iter().find(|(call, _)| *call == self);
        found.map_or("", |(_, name)| name)
    }

    /// The point at a stage of it.
    #[must_use]
    pub const fn at(self, stage: Stage) -> Point {
        Point { call: self, stage }
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = STAGES.iter().find(|(stage, _)| *stage == self.stage);
        write!(f, "{}.{}", self.call.name(), stage.map_or("", |(_, s)| s))
    }
}

/// Why a text names no point.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is no point; one is written like claim.applied")]
pub struct PointError(String);

impl FromStr for Point {
    type Err = PointError;

    fn from_str(text: &str) -> Result<Point, PointError> {
        let parse = || {
            let (call, stage) = text.split_once('.')?;
            let call = CALLS.iter().find(|(_, name)| *name == call)?.0;
            let stage = STAGES.iter().find(|(_, name)| *name == stage)?.0;
            Some(call.at(stage))
        };
        parse().ok_or_else(|| PointError(text.to_owned()))
    }
}

impl TryFrom<String> for Point {
    type Error = PointError;

    fn try_from(text: String) -> Result<Point, PointError> {
        text.parse()
    }
}

impl From<Point> for String {
    fn from(point: Point) -> String {
        point.to_string()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn every_point_reads_back_from_its_name() {
        for (call, _) in CALLS {
            for (stage, _) in STAGES {
                let point = call.at(*stage);
                assert_eq!(point.to_string().parse::<Point>().unwrap(), point);
            }
        }
        assert!("claim".parse::<Point>().is_err());
        assert!("claim.lost".parse::<Point>().is_err());
    }

    #[test]
    fn a_planned_fault_is_one_short_line_of_json() {
        let fault = PlannedFault {
            on: When::Pass {
                point: Call::Claim.at(Stage::Applied),
                nth: 2,
            },
            fault: Fault::Kill { down_ms: 100 },
        };
        let text = serde_json::to_string(&fault).unwrap();
        assert_eq!(
            text,
            r#"{"on":{"pass":{"point":"claim.applied","nth":2}},"f":"worker.kill","down_ms":100}"#
        );
        assert_eq!(serde_json::from_str::<PlannedFault>(&text).unwrap(), fault);
    }
}
