//! The profile: the parameters from which a seed draws a plan, as plain data.
//!
//! A profile states the numbers of events, failures and faults, and the settings of the dispatcher.
//! It draws no events and no faults, and it does no IO.

pub mod named;

use std::collections::BTreeMap;

use rand::RngExt;
use serde::{Deserialize, Serialize};

use crate::fault::{Aftermath, Kind, kind_named};
use crate::seed::Seed;

/// Number of events in a run without `--events`.
pub const EVENTS_DEFAULT: u32 = 300;
/// Maximum number of events in a run. The plan is held in memory.
pub const EVENTS_MAX: u32 = 20_000;
/// The shortest storm, in milliseconds.
pub const STORM_MS_MIN: u64 = 500;
/// Time in the storm per kill, in milliseconds: a kill, the restart, and the recovery.
const STORM_MS_PER_KILL: u64 = 2_500;
/// Abandoned attempts of one event that the budget allows per fault: a lease that ends twice within
/// one fault is rare.
const ABANDONS_PER_FAULT: u32 = 3;
/// The longest storm, in milliseconds (one hour).
pub const STORM_MS_MAX: u64 = 3_600_000;

/// The settings of the workers of one section.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Deadline of one attempt, in milliseconds (`HTTP_TIMEOUT`).
    pub http_timeout_ms: u64,
    /// Delay after the first failure, in milliseconds (`BACKOFF_BASE_SECONDS`).
    pub backoff_base_ms: u64,
    /// Longest delay, in milliseconds (`BACKOFF_CAP_SECONDS`).
    pub backoff_cap_ms: u64,
    /// Duration of a lease, in milliseconds (`LEASE_SECONDS`).
    pub lease_ms: u64,
    /// Longest wait between two claims, in milliseconds (`WORKER_POLL_INTERVAL`).
    pub poll_ms: u64,
    /// Failed attempts after which an event is dead (`MAX_ATTEMPTS`).
    pub max_attempts: u32,
    /// Abandoned attempts after which an event is dead (`MAX_ABANDONED`).
    pub max_abandoned: u32,
    /// Limit of open attempts per worker (`MAX_IN_FLIGHT`).
    pub max_in_flight: u32,
    /// Limit of open attempts per worker and host (`MAX_IN_FLIGHT_PER_HOST`). If absent, the
    /// default of the dispatcher applies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_in_flight_per_host: Option<u32>,
    /// Limit of requests in progress to the API of a worker (`MAX_API_CONNECTIONS`). If absent, the
    /// default of the dispatcher applies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_api_connections: Option<u32>,
}

impl Settings {
    /// The default settings of the dispatcher, as its contract states them.
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
            max_api_connections: None,
        }
    }

    /// Shorter times, so that a run with many failures takes a minute.
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
            max_api_connections: None,
        }
    }

    /// The least delay after this number of failures, in milliseconds.
    #[must_use]
    pub fn delay_ms(&self, failures: u32) -> u64 {
        let doublings = failures.saturating_sub(1).min(40);
        self.backoff_base_ms.saturating_mul(1 << doublings).min(self.backoff_cap_ms)
    }

    /// The greatest delay after this number of failures, in milliseconds. Jitter adds at most a
    /// quarter.
    #[must_use]
    pub fn delay_ms_max(&self, failures: u32) -> u64 {
        self.delay_ms(failures).saturating_mul(5).div_ceil(4)
    }

    /// The number of attempts of one event that may fail within this time.
    #[must_use]
    pub fn failures_within(&self, ms: u64) -> u32 {
        let mut passed_ms = 0;
        let times = (1..self.backoff_cap_ms.max(1) as u32).take_while(|failures| {
            passed_ms += self.delay_ms(*failures).max(1);
            passed_ms <= ms
        });
        // The first attempt fails at time zero.
        1 + u32::try_from(times.count()).unwrap_or(u32::MAX)
    }

    /// Time limit of a stop, in milliseconds: the default of `SHUTDOWN_SECONDS`.
    #[must_use]
    pub const fn shutdown_ms(&self) -> u64 {
        self.http_timeout_ms + 5_000
    }

    /// The environment variables of a worker with these settings.
    #[must_use]
    pub fn env(&self) -> BTreeMap<String, String> {
        let text = |ms: u64| format!("{}.{:03}", ms / 1_000, ms % 1_000);
        let optional = [
            ("MAX_IN_FLIGHT_PER_HOST", self.max_in_flight_per_host),
            ("MAX_API_CONNECTIONS", self.max_api_connections),
        ];
        let given = optional.into_iter().filter_map(|(name, limit)| Some((name, limit?)));
        let given = given.map(|(name, limit)| (name.into(), limit.to_string()));
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
        always.into_iter().chain(given).collect()
    }
}

/// The parameters of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// Name on the command line.
    pub name: String,
    /// Number of events, including those of the section at default settings.
    pub events: u32,
    /// Duration of the baseline before the storm, in milliseconds. 0 means no baseline.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub baseline_ms: u64,
    /// Duration of the storm, in milliseconds.
    pub storm_ms: u64,
    /// Dispatcher processes that share one database.
    pub workers: u32,
    /// Receivers, each with its own port.
    pub receivers: u32,
    /// Concurrent clients.
    pub clients: u32,
    /// Probability that an attempt fails, in percent.
    pub failure_percent: u32,
    /// Probability that an attempt hangs, in percent. Hangs are among the failures.
    pub hang_percent: u32,
    /// Maximum number of failures before a script succeeds. It is less than `max_attempts`.
    pub failures_max: u32,
    /// Probability that the script of an event makes it dead, in percent.
    #[serde(default)]
    pub dead_percent: u32,
    /// Longest delay of a response, in milliseconds. It is less than the deadline of an attempt.
    pub answer_delay_ms_max: u64,
    /// Number of kills.
    pub kills: u32,
    /// Number of faults of each other kind, by its name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub faults: BTreeMap<String, u32>,
    /// True if the seed draws a subset of the kinds. Random subsets find more failures than one
    /// fixed mix.
    #[serde(default)]
    pub swarm: bool,
    /// Number of kills that must end an open request. With fewer, the verdict is unknown.
    pub kills_required: u32,
    /// Size limit of a payload, in bytes.
    pub payload_bytes_max: usize,
    /// Number of events for a second dispatcher with default settings, with three failures each.
    pub default_events: u32,
    /// Slack of the drain bound, in milliseconds.
    pub drain_slack_ms: u64,
    /// Settings of the workers in the main section.
    pub settings: Settings,
}

impl Profile {
    /// Changes the number of events.
    #[must_use]
    pub fn with_events(self, events: u32) -> Profile {
        let default_events = self.default_events.min(events / 5);
        Profile { events, default_events, ..self }
    }

    /// Changes the duration of the storm, and with it the number of kills.
    #[must_use]
    pub fn with_storm_ms(self, storm_ms: u64) -> Profile {
        if self.kills == 0 || storm_ms == self.storm_ms {
            return Profile { storm_ms, ..self };
        }
        let kills = u32::try_from(storm_ms / STORM_MS_PER_KILL).unwrap_or(u32::MAX).max(1);
        let kills_required = self.kills_required.min(kills - kills / 3);
        Profile { storm_ms, kills, kills_required, ..self }
    }

    /// Number of events of the main section in the baseline. The rate is the one of the storm.
    #[must_use]
    pub fn baseline_events(&self) -> u32 {
        let main = u64::from(self.events - self.default_events);
        let all_ms = self.baseline_ms + self.storm_ms;
        u32::try_from(main * self.baseline_ms / all_ms.max(1)).unwrap_or(u32::MAX)
    }

    /// The number of faults of a kind that this seed draws.
    #[must_use]
    pub fn count_of(&self, seed: Seed, kind: &Kind) -> u32 {
        let name = kind.name;
        let planned =
            if kind.is_kill() { self.kills } else { self.faults.get(name).copied().unwrap_or(0) };
        let left_out = || seed.stream(&format!("swarm/{name}")).random_range(0..2) == 0;
        if self.swarm && left_out() { 0 } else { planned }
    }

    /// The settings of the main section. The limits of attempts and of abandoned attempts are above
    /// the numbers that the faults of the plan may use up, so that no event dies of a fault.
    #[must_use]
    pub fn main_settings(&self, kinds: &[Kind]) -> Settings {
        let (mut abandons, mut failures) = (0, 0);
        for (name, count) in &self.faults {
            let harm = kind_named(kinds, name).map(|kind| kind.harm);
            let declared = harm.map_or(0, |harm| harm.abandons_max);
            abandons += count * declared.max(ABANDONS_PER_FAULT);
            if let Some(Aftermath::Receiver { for_ms }) = harm.map(|harm| harm.aftermath) {
                failures += count * self.settings.failures_within(for_ms);
            }
        }
        let max_attempts = self.settings.max_attempts + failures;
        let max_abandoned = self.settings.max_abandoned.max(self.kills + abandons + 5);
        Settings { max_attempts, max_abandoned, ..self.settings.clone() }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(ms: &u64) -> bool {
    *ms == 0
}

#[cfg(test)]
mod tests {
    use super::named::PROFILES;
    use super::*;
    use crate::nemesis::{HangReceiver, KINDS};

    #[test]
    fn listed_profiles_exist_and_their_scripts_end_before_the_budget() {
        for (name, _) in PROFILES {
            let profile = Profile::named(name).expect("a listed profile exists");
            assert_eq!(&profile.name, name);
            assert!(profile.failures_max < profile.settings.max_attempts);
            assert!(profile.answer_delay_ms_max < profile.settings.http_timeout_ms);
            assert!(profile.main_settings(KINDS).max_abandoned > profile.kills);
        }
    }

    #[test]
    fn receiver_faults_raise_the_limit_of_attempts() {
        // At 0 ms, and after 100, 300, 700, 1500, 2500, 3500 and 4500 ms.
        assert_eq!(Settings::scaled().failures_within(5_000), 8);
        let attempts = |profile: Profile| profile.main_settings(KINDS).max_attempts;
        assert_eq!(attempts(Profile::chaotic()), 20);
        assert_eq!(attempts(Profile::chaotic().with_fault(&HangReceiver::KIND, 2)), 36);
    }

    #[test]
    fn delays_double_up_to_the_cap_without_overflow() {
        let settings = Settings::defaults();
        let delays: Vec<u64> = (1..=4).map(|n| settings.delay_ms(n)).collect();
        assert_eq!(delays, [2_000, 4_000, 8_000, 16_000]);
        assert_eq!(settings.delay_ms(u32::MAX), 3_600_000);
        assert_eq!(settings.delay_ms_max(1), 2_500);
    }
}
