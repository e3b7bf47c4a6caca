//! The size of the run in which a saboteur must be detected, and its profile.

use std::collections::BTreeMap;

use super::exact::Exact;
use crate::fault::Kind;
use crate::nemesis::{HangReceiver, RECEIVER_FAULT_MS_MAX, Schedule};
use crate::profile::{Profile, Settings};
use crate::seed::Seed;

/// Events of a run.
const EVENTS: u32 = 40;
/// Time in which they are posted, in milliseconds.
const STORM_MS: u64 = 2_000;

/// Places of the API of a worker.
const API_CONNECTIONS: u32 = 32;

/// Events of a run with a hanging receiver. The events of one target fill the permits in a second.
const EVENTS_WITH_A_HANG: u32 = 220;
/// Time in which they are posted after the baseline, in milliseconds. The first hang begins and
/// affects other targets within this time.
const STORM_MS_WITH_A_HANG: u64 = 8_000;
/// Length of the baseline of such a run, in milliseconds.
const BASELINE_MS: u64 = 2_000;

/// Time between two posts of a run with one fault of fixed parameters, in milliseconds.
const MS_PER_EVENT_WITH_EXACT: u64 = 100;

/// Time in which the events of a run with a database are posted, in milliseconds. Its sessions are
/// counted meanwhile.
const STORM_MS_WITH_A_DATABASE: u64 = 12_000;

/// The size of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Events that are posted.
    pub events: u32,
    /// Time in which they are posted, in milliseconds.
    pub storm_ms: u64,
    /// Workers that share one memory.
    pub workers: u32,
    /// Permits of each worker, or `None` for the default settings.
    pub permits: Option<Permits>,
    /// A fault that is drawn twice, in addition to the kill.
    pub fault: Option<Kind>,
    /// True if the workers have a database.
    pub database: bool,
    /// A fault with fixed parameters that the run has once.
    pub exact: Option<Exact>,
}

/// The open attempts that a worker is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permits {
    /// Limit for all hosts together.
    pub total: u32,
    /// Limit for each host.
    pub per_host: u32,
}

impl Budget {
    /// The run of most saboteurs.
    pub const fn of_workers(workers: u32) -> Self {
        Self {
            events: EVENTS,
            storm_ms: STORM_MS,
            workers,
            permits: None,
            fault: None,
            database: false,
            exact: None,
        }
    }

    /// A run of a worker with a database, long enough for its sessions to be counted.
    pub const fn of_database() -> Self {
        Self { database: true, storm_ms: STORM_MS_WITH_A_DATABASE, ..Self::of_workers(1) }
    }

    /// A run of a worker with a database, to which its link swallows everything for a while.
    pub const fn of_outage() -> Self {
        Self { database: true, exact: Some(Exact::Outage), ..Self::of_workers(1) }
    }

    /// A run of a worker with one fault of fixed parameters. A fault of the database server needs a
    /// worker with a database.
    pub const fn of_exact(exact: Exact) -> Self {
        Self {
            events: (exact.storm_ms() / MS_PER_EVENT_WITH_EXACT) as u32,
            storm_ms: exact.storm_ms(),
            database: exact.needs_database(),
            exact: Some(exact),
            ..Self::of_workers(1)
        }
    }

    /// A run with few permits and one fault of fixed parameters, in which a part of the events can
    /// delay the others.
    pub const fn of_isolation(permits: Permits, exact: Exact) -> Self {
        Self {
            events: EVENTS_WITH_A_HANG,
            storm_ms: STORM_MS_WITH_A_HANG,
            permits: Some(permits),
            ..Self::of_exact(exact)
        }
    }

    /// A run with few permits and a hanging receiver, in which one target can delay the others.
    pub const fn of_permits(permits: Permits) -> Self {
        Self {
            events: EVENTS_WITH_A_HANG,
            storm_ms: STORM_MS_WITH_A_HANG,
            permits: Some(permits),
            ..Self::of_workers(1).with_fault(HangReceiver::KIND)
        }
    }

    /// The same run with two faults of a kind.
    pub const fn with_fault(self, fault: Kind) -> Self {
        let fault = Some(fault);
        Self { fault, ..self }
    }

    /// Returns true if the fault needs a server that no other run uses.
    pub const fn needs_own_server(self) -> bool {
        match self.exact {
            Some(exact) => exact.kind().needs.own_postgres,
            None => false,
        }
    }

    /// Number of kills. A kill excuses duplicates of two workers and long waits, so runs that must
    /// show those have none.
    const fn kills(self) -> u32 {
        let others = self.permits.is_some() || self.database || self.exact.is_some();
        (self.workers == 1 && !others) as u32
    }

    /// The plan of the run.
    pub fn schedule(self, seed: Seed) -> Schedule {
        let mut schedule = Schedule::generate(seed, &self.profile());
        if let Some(exact) = self.exact {
            schedule.faults.iter_mut().for_each(|planned| exact.fix(planned));
        }
        schedule
    }

    /// The number of faults of each kind.
    fn faults(self) -> BTreeMap<String, u32> {
        let twice = self.fault.map(|kind| (kind, 2));
        let once = self.exact.map(|exact| (exact.kind(), 1));
        twice.into_iter().chain(once).map(|(kind, count)| (kind.name.to_owned(), count)).collect()
    }

    /// The profile of the run. It has few attempts and little drain slack, because the events of a
    /// saboteur may never end.
    pub fn profile(self) -> Profile {
        let profile = Profile {
            name: "sabotage".into(),
            events: self.events,
            baseline_ms: 0,
            storm_ms: self.storm_ms,
            workers: self.workers,
            failures_max: 3,
            answer_delay_ms_max: 300,
            kills: self.kills(),
            faults: self.faults(),
            kills_required: self.kills(),
            payload_bytes_max: 8 * 1024,
            default_events: 0,
            drain_slack_ms: 3_000,
            settings: Settings {
                // On a loaded machine a receiver may see a request 1 s late. With a shorter deadline
                // the request was sent again, and no fault explained it.
                http_timeout_ms: 2_500,
                backoff_base_ms: 50,
                backoff_cap_ms: 400,
                lease_ms: 4_000,
                max_attempts: 6,
                max_api_connections: Some(API_CONNECTIONS),
                ..Settings::scaled()
            },
            ..Profile::chaotic()
        };
        match self.permits {
            Some(permits) => with_permits(profile, permits),
            None => profile,
        }
    }
}

/// The same profile with so few permits that one host can take all of them. Attempts outlast the
/// hang, and no other response is slow. The baseline measures the wait of an event without faults.
fn with_permits(profile: Profile, permits: Permits) -> Profile {
    Profile {
        baseline_ms: BASELINE_MS,
        failure_percent: 30,
        hang_percent: 0,
        answer_delay_ms_max: 100,
        settings: Settings {
            http_timeout_ms: RECEIVER_FAULT_MS_MAX + 1_000,
            lease_ms: 2 * RECEIVER_FAULT_MS_MAX,
            max_in_flight: permits.total,
            max_in_flight_per_host: Some(permits.per_host),
            ..profile.settings
        },
        ..profile
    }
}
