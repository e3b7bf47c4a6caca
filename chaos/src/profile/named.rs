//! The profiles with a name on the command line, and the selection of faults for a profile.
//!
//! They are apart from `profile.rs` because they list the kinds of the nemesis, which imports
//! profiles.

use std::collections::BTreeMap;

use super::{EVENTS_DEFAULT, Profile, Settings};
use crate::fault::{Family, Kind};
use crate::nemesis::{
    ClockOffset, CloseKept, Crowd, CutCommit, DeadAddress, DeepBacklog, FewConnections, HangMost,
    HoldHorizon, KINDS, LoseLog, LoseStandby, PoisonRow, ReadOnly, SlowLink, StrayBytes,
};

/// Number of faults of each kind in the profile `everything`.
const EACH_OF_EVERYTHING: u32 = 1;

/// Places of the API of each worker in the profiles that draw a crowd. The crowd of each worker is
/// little larger, and all of them fit in 1,024 descriptors.
const API_CONNECTIONS: u32 = 150;

/// Faults from field reports. They are drawn by the profiles `field` and `everything`, and not by
/// those of their family.
const FIELD: &[&Kind] = &[
    &LoseLog::KIND,
    &ReadOnly::KIND,
    &LoseStandby::KIND,
    &FewConnections::KIND,
    &HoldHorizon::KIND,
    &PoisonRow::KIND,
    &HangMost::KIND,
    &StrayBytes::KIND,
    &CloseKept::KIND,
    &DeadAddress::KIND,
    &SlowLink::KIND,
    &Crowd::KIND,
    &DeepBacklog::KIND,
    &ClockOffset::KIND,
];

/// Every profile with its description.
pub const PROFILES: &[(&str, &str)] = &[
    ("calm", "no fault: the control run, in which no event may be delivered twice"),
    ("chaotic", "70 % failures, delays, 8 % hangs and kills of workers with open requests"),
    ("storm", "every worker fault, three workers, and more load"),
    (
        "network",
        "every fault of the links between clients, workers, receivers and Postgres, and a few kills",
    ),
    ("database", "every Postgres fault, on a dedicated server, and a few kills"),
    (
        "dead-letters",
        "events that must become dead, after MAX_ATTEMPTS or a 410, among others that must not",
    ),
    (
        "receivers",
        "receivers that hang, refuse and flap, with few permits, so that one target could starve others",
    ),
    (
        "field",
        "faults from field reports: of databases, logs and receivers in production, and a few kills",
    ),
    ("everything", "a subset of all faults, drawn by the seed"),
];

impl Profile {
    /// The profile called `name`.
    #[must_use]
    pub fn named(name: &str) -> Option<Profile> {
        match name {
            "calm" => Some(Profile::calm()),
            "chaotic" => Some(Profile::chaotic()),
            "storm" => Some(Profile::storm()),
            "network" => Some(Profile::network()),
            "database" => Some(Profile::database()),
            "dead-letters" => Some(Profile::dead_letters()),
            "receivers" => Some(Profile::receivers()),
            "field" => Some(Profile::field()),
            "everything" => Some(Profile::everything()),
            _ => None,
        }
    }

    /// The default profile: failing receivers and killed workers.
    #[must_use]
    pub fn chaotic() -> Profile {
        Profile {
            name: "chaotic".into(),
            events: EVENTS_DEFAULT,
            baseline_ms: 2_000,
            storm_ms: 25_000,
            workers: 2,
            receivers: 3,
            clients: 4,
            failure_percent: 70,
            hang_percent: 8,
            failures_max: 8,
            dead_percent: 0,
            answer_delay_ms_max: 800,
            kills: 10,
            faults: BTreeMap::new(),
            swarm: false,
            kills_required: 5,
            payload_bytes_max: 64 * 1024,
            default_events: 4,
            drain_slack_ms: 15_000,
            settings: Settings::scaled(),
        }
    }

    /// The control run: without failures and faults, no event may be sent twice. A few events at
    /// default settings are refused three times, so that there are gaps to judge.
    #[must_use]
    pub fn calm() -> Profile {
        Profile {
            name: "calm".into(),
            // A baseline would not differ from the rest of the run.
            baseline_ms: 0,
            storm_ms: 5_000,
            failure_percent: 0,
            hang_percent: 0,
            failures_max: 0,
            answer_delay_ms_max: 20,
            kills: 0,
            kills_required: 0,
            default_events: 2,
            ..Profile::chaotic()
        }
    }

    /// Every worker fault.
    #[must_use]
    pub fn storm() -> Profile {
        Profile {
            name: "storm".into(),
            storm_ms: 40_000,
            workers: 3,
            clients: 8,
            kills: 4,
            kills_required: 1,
            ..Profile::chaotic()
        }
        .with_family(Family::Worker, 1)
    }

    /// Every link fault.
    #[must_use]
    pub fn network() -> Profile {
        Profile {
            name: "network".into(),
            storm_ms: 40_000,
            clients: 8,
            kills: 3,
            kills_required: 0,
            ..Profile::chaotic()
        }
        .with_family(Family::Network, 2)
        .with_fault(&CutCommit::KIND, 3)
    }

    /// Every Postgres fault, and a few kills, so that both kinds of harm occur together.
    #[must_use]
    pub fn database() -> Profile {
        Profile {
            name: "database".into(),
            storm_ms: 50_000,
            kills: 2,
            kills_required: 0,
            default_events: 2,
            ..Profile::chaotic()
        }
        .with_family(Family::Postgres, 1)
    }

    /// Events that must become dead, without a fault that could hide the reason.
    #[must_use]
    pub fn dead_letters() -> Profile {
        Profile {
            name: "dead-letters".into(),
            // Without faults there is no recovery to compare with a baseline.
            baseline_ms: 0,
            storm_ms: 5_000,
            failures_max: 3,
            dead_percent: 40,
            kills: 0,
            kills_required: 0,
            default_events: 0,
            settings: Settings { max_attempts: 5, ..Settings::scaled() },
            ..Profile::chaotic()
        }
    }

    /// Every receiver fault, with so few permits that one target could take all of them.
    #[must_use]
    pub fn receivers() -> Profile {
        Profile {
            name: "receivers".into(),
            storm_ms: 30_000,
            receivers: 4,
            kills: 0,
            kills_required: 0,
            default_events: 0,
            settings: Settings {
                max_in_flight: 24,
                max_in_flight_per_host: Some(8),
                ..Settings::scaled()
            },
            ..Profile::chaotic()
        }
        .with_family(Family::Receiver, 2)
    }

    /// Every fault from field reports.
    #[must_use]
    pub fn field() -> Profile {
        Profile {
            name: "field".into(),
            storm_ms: 50_000,
            kills: 2,
            kills_required: 0,
            default_events: 2,
            settings: Settings { max_api_connections: Some(API_CONNECTIONS), ..Settings::scaled() },
            ..Profile::chaotic()
        }
        .with_field_faults(1)
    }

    /// A subset of all faults: the seed draws each kind in or out.
    #[must_use]
    pub fn everything() -> Profile {
        Profile {
            name: "everything".into(),
            storm_ms: 40_000,
            workers: 3,
            kills: 4,
            kills_required: 1,
            swarm: true,
            default_events: 2,
            settings: Settings { max_api_connections: Some(API_CONNECTIONS), ..Settings::scaled() },
            ..Profile::chaotic()
        }
        .with_each(KINDS.iter(), EACH_OF_EVERYTHING)
    }

    /// Adds this number of faults of a kind.
    #[must_use]
    pub fn with_fault(self, kind: &Kind, count: u32) -> Profile {
        self.with_each([kind], count)
    }

    /// Adds this number of faults of each kind of a family, except those from field reports, and
    /// except kills, which have their own number.
    #[must_use]
    pub fn with_family(self, family: Family, each: u32) -> Profile {
        let of_family = |kind: &&Kind| kind.family == family && !FIELD.contains(kind);
        self.with_each(KINDS.iter().filter(of_family), each)
    }

    /// Adds this number of faults of each kind from field reports.
    #[must_use]
    pub fn with_field_faults(self, each: u32) -> Profile {
        self.with_each(FIELD.iter().copied(), each)
    }

    fn with_each<'k>(mut self, kinds: impl IntoIterator<Item = &'k Kind>, each: u32) -> Profile {
        let counted = kinds.into_iter().filter(|kind| !kind.is_kill());
        let counts = counted.map(|kind| (kind.name.to_owned(), each));
        self.faults.extend(counts);
        self
    }
}
