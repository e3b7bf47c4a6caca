//! The profile: every knob of a run, as plain data.
//!
//! A profile says how much is drawn (events, failures, kills) and at which settings the dispatcher
//! runs. It draws nothing and starts nothing.

mod named;

use std::collections::BTreeMap;

use rand::RngExt;
use serde::{Deserialize, Serialize};

use crate::fault::{Aftermath, Kind};
use crate::nemesis;
use crate::seed::Seed;

pub use named::PROFILES;

/// Events in a run unless `--events` says otherwise.
pub const EVENTS_DEFAULT: u32 = 300;
/// Events a run takes at most; the plan of a run is held in memory.
pub const EVENTS_MAX: u32 = 20_000;
/// The shortest storm, in milliseconds.
pub const STORM_MS_MIN: u64 = 500;
/// One kill in this many milliseconds of storm: a kill, its restart, and time to recover.
const STORM_MS_PER_KILL: u64 = 2_500;
/// Abandoned attempts of one event that the budget allows per fault: a lease that ends twice within
/// one fault is rare.
const ABANDONS_PER_FAULT: u32 = 3;
/// The longest storm, in milliseconds (one hour).
pub const STORM_MS_MAX: u64 = 3_600_000;

/// The retry, time and size settings that one group of workers runs with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Whole deadline of one attempt, in milliseconds (`HTTP_TIMEOUT`).
    pub http_timeout_ms: u64,
    /// Delay after the first failure, in milliseconds (`BACKOFF_BASE_SECONDS`).
    pub backoff_base_ms: u64,
    /// Longest delay, in milliseconds (`BACKOFF_CAP_SECONDS`).
    pub backoff_cap_ms: u64,
    /// How long a claim holds an event, in milliseconds (`LEASE_SECONDS`).
    pub lease_ms: u64,
    /// Longest sleep between two looks for due events, in milliseconds (`WORKER_POLL_INTERVAL`).
    pub poll_ms: u64,
    /// Settled failures before an event is dead (`MAX_ATTEMPTS`).
    pub max_attempts: u32,
    /// Reclaims without a settle before an event is dead (`MAX_ABANDONED`).
    pub max_abandoned: u32,
    /// Attempts that one worker has open at most (`MAX_IN_FLIGHT`).
    pub max_in_flight: u32,
    /// Those of them to one host at most (`MAX_IN_FLIGHT_PER_HOST`); none for the dispatcher's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_in_flight_per_host: Option<u32>,
}

impl Settings {
    /// The dispatcher's own defaults, as its contract states them.
    #[must_use]
    pub const fn defaults() -> Settings {
        Settings {
            http_timeout_ms: 15_000,
            backoff_base_ms: 2_000,
            backoff_cap_ms: 3_600_000,
            lease_ms: 30_000,
            poll_ms: 1_500,
            max_attempts: 20,
            max_abandoned: 20,
            max_in_flight: 512,
            max_in_flight_per_host: None,
        }
    }

    /// Settings scaled down so that a run of many failures takes a minute.
    #[must_use]
    pub const fn scaled() -> Settings {
        Settings {
            http_timeout_ms: 1_500,
            backoff_base_ms: 100,
            backoff_cap_ms: 1_000,
            lease_ms: 4_000,
            poll_ms: 250,
            max_attempts: 20,
            max_abandoned: 20,
            max_in_flight: 512,
            max_in_flight_per_host: None,
        }
    }

    /// The least delay after the `failures`-th settled failure, in milliseconds.
    #[must_use]
    pub fn delay_ms(&self, failures: u32) -> u64 {
        let doublings = failures.saturating_sub(1).min(40);
        self.backoff_base_ms
            .saturating_mul(1 << doublings)
            .min(self.backoff_cap_ms)
    }

    /// The greatest delay after the `failures`-th settled failure, in milliseconds: jitter adds at
    /// most a quarter.
    #[must_use]
    pub fn delay_ms_max(&self, failures: u32) -> u64 {
        self.delay_ms(failures).saturating_mul(5).div_ceil(4)
    }

    /// How many attempts of one event may fail one after the other within so many milliseconds.
    #[must_use]
    pub fn failures_within(&self, ms: u64) -> u32 {
        let mut passed_ms = 0;
        let times = (1..self.backoff_cap_ms.max(1) as u32).take_while(|failures| {
            passed_ms += self.delay_ms(*failures).max(1);
            passed_ms <= ms
        });
        // The first fails at once.
        1 + u32::try_from(times.count()).unwrap_or(u32::MAX)
    }

    /// How long a stop may take, in milliseconds: the dispatcher's own default.
    #[must_use]
    pub const fn shutdown_ms(&self) -> u64 {
        self.http_timeout_ms + 5_000
    }

    /// The environment that states these settings to a worker.
    #[must_use]
    pub fn env(&self) -> BTreeMap<String, String> {
        let text = |ms: u64| format!("{}.{:03}", ms / 1_000, ms % 1_000);
        let per_host = self.max_in_flight_per_host;
        let per_host = per_host.map(|most| ("MAX_IN_FLIGHT_PER_HOST".into(), most.to_string()));
        let always = [
            ("HTTP_TIMEOUT".into(), text(self.http_timeout_ms)),
            ("BACKOFF_BASE_SECONDS".into(), text(self.backoff_base_ms)),
            ("BACKOFF_CAP_SECONDS".into(), text(self.backoff_cap_ms)),
            ("LEASE_SECONDS".into(), text(self.lease_ms)),
            ("WORKER_POLL_INTERVAL".into(), text(self.poll_ms)),
            ("MAX_ATTEMPTS".into(), self.max_attempts.to_string()),
            ("MAX_ABANDONED".into(), self.max_abandoned.to_string()),
            ("MAX_IN_FLIGHT".into(), self.max_in_flight.to_string()),
        ];
        always.into_iter().chain(per_host).collect()
    }
}

/// Every knob of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// What the command line calls it.
    pub name: String,
    /// Events of the run, those at the default settings included.
    pub events: u32,
    /// How long events are posted in peace before the storm, in milliseconds; 0 for no baseline.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub baseline_ms: u64,
    /// How long events are posted and faults applied, in milliseconds.
    pub storm_ms: u64,
    /// Dispatcher processes that share one database.
    pub workers: u32,
    /// Receivers, each on a port of its own.
    pub receivers: u32,
    /// Clients that post at the same time.
    pub clients: u32,
    /// Chance that an attempt is answered by a failure, in percent.
    pub failure_percent: u32,
    /// Chance that a failure is a hang, in percent of all attempts.
    pub hang_percent: u32,
    /// Failures in a row after which a script always answers 200; less than `max_attempts`.
    pub failures_max: u32,
    /// Chance that a script ends with the death of its event, in percent.
    #[serde(default)]
    pub dead_percent: u32,
    /// Longest delay before an answer, in milliseconds; less than the deadline of an attempt.
    pub answer_delay_ms_max: u64,
    /// Kills that are drawn.
    pub kills: u32,
    /// How many faults of each further kind are drawn, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub faults: BTreeMap<String, u32>,
    /// True when the seed draws each kind of fault in or out: a swarm of runs tests more than one mix.
    #[serde(default)]
    pub swarm: bool,
    /// Kills that must have hit an open request for the run to have tested anything.
    pub kills_required: u32,
    /// Largest payload that is drawn, in bytes.
    pub payload_bytes_max: usize,
    /// Events sent by a second dispatcher at its default settings, three failures each; 0 for none.
    pub default_events: u32,
    /// What a drain may take beyond what scripts, leases and backlog explain, in milliseconds.
    pub drain_slack_ms: u64,
    /// What the workers of the main section run with.
    pub settings: Settings,
}

impl Profile {
    /// The same with another number of events.
    #[must_use]
    pub fn with_events(self, events: u32) -> Profile {
        let default_events = self.default_events.min(events / 5);
        Profile {
            events,
            default_events,
            ..self
        }
    }

    /// The same with another length of the storm, and as many kills as that leaves room for.
    #[must_use]
    pub fn with_storm_ms(self, storm_ms: u64) -> Profile {
        if self.kills == 0 || storm_ms == self.storm_ms {
            return Profile { storm_ms, ..self };
        }
        let kills = u32::try_from(storm_ms / STORM_MS_PER_KILL)
            .unwrap_or(u32::MAX)
            .max(1);
        let kills_required = self.kills_required.min(kills - kills / 3);
        Profile {
            storm_ms,
            kills,
            kills_required,
            ..self
        }
    }

    /// Events of the main section that are posted before the storm: as many a second as in it.
    #[must_use]
    pub fn baseline_events(&self) -> u32 {
        let main = u64::from(self.events - self.default_events);
        let all_ms = self.baseline_ms + self.storm_ms;
        u32::try_from(main * self.baseline_ms / all_ms.max(1)).unwrap_or(u32::MAX)
    }

    /// How many faults of a kind this seed draws.
    #[must_use]
    pub fn count_of(&self, seed: Seed, kind: &Kind) -> u32 {
        let name = kind.name;
        let asked = if kind.is_kill() {
            self.kills
        } else {
            self.faults.get(name).copied().unwrap_or(0)
        };
        let left_out = || seed.stream(&format!("swarm/{name}")).random_range(0..2) == 0;
        if self.swarm && left_out() { 0 } else { asked }
    }

    /// The settings of the main section, with a budget of abandonments above the faults drawn, and one of
    /// attempts above those that faults of receivers make fail.
    #[must_use]
    pub fn main_settings(&self) -> Settings {
        let (mut abandons, mut failures) = (0, 0);
        for (name, count) in &self.faults {
            let harm = nemesis::kind(name).map(|kind| kind.harm);
            let declared = harm.map_or(0, |harm| harm.abandons_max);
            abandons += count * declared.max(ABANDONS_PER_FAULT);
            if let Some(Aftermath::Receiver { for_ms }) = harm.map(|harm| harm.aftermath) {
                failures += count * self.settings.failures_within(for_ms);
            }
        }
        let max_attempts = self.settings.max_attempts + failures;
        let max_abandoned = self.settings.max_abandoned.max(self.kills + abandons + 5);
        Settings {
            max_attempts,
            max_abandoned,
            ..self.settings.clone()
        }
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands over a reference"
)]
fn is_zero(ms: &u64) -> bool {
    *ms == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_profile_exists_and_its_scripts_end_before_the_budget() {
        for (name, _) in PROFILES {
            let profile = Profile::named(name).expect("a listed profile exists");
            assert_eq!(&profile.name, name);
            assert!(profile.failures_max < profile.settings.max_attempts);
            assert!(profile.answer_delay_ms_max < profile.settings.http_timeout_ms);
            assert!(profile.main_settings().max_abandoned > profile.kills);
        }
    }

    #[test]
    fn faults_of_receivers_raise_the_budget_of_attempts_by_what_they_can_make_fail() {
        // At once, and after 100, 300, 700, 1500, 2500, 3500 and 4500 ms.
        assert_eq!(Settings::scaled().failures_within(5_000), 8);
        let attempts = |profile: Profile| profile.main_settings().max_attempts;
        assert_eq!(attempts(Profile::chaotic()), 20);
        assert_eq!(
            attempts(Profile::chaotic().with_fault(&nemesis::HangReceiver::KIND, 2)),
            36
        );
    }

    #[test]
    fn delays_double_up_to_the_cap_and_never_overflow() {
        let settings = Settings::defaults();
        let delays: Vec<u64> = (1..=4).map(|n| settings.delay_ms(n)).collect();
        assert_eq!(delays, [2_000, 4_000, 8_000, 16_000]);
        assert_eq!(settings.delay_ms(u32::MAX), 3_600_000);
        assert_eq!(settings.delay_ms_max(1), 2_500);
    }
}
