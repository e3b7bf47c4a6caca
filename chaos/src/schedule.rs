//! The schedule: the complete plan of a run as plain data, drawn from the seed before the run
//! starts.
//!
//! The same seed and profile give the same schedule. They do not give the same interleaving,
//! because real processes do not repeat theirs. No IO. The fault type is a parameter, so that this
//! module does not depend on the code that injects faults.

mod payload;
mod script;
mod start;

use std::collections::BTreeMap;

use rand::RngExt;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use mock_receiver::Behavior;

use crate::fault::{Needs, Planned, PlannedKind};
use crate::plan::{Condition, PlannedEvent, PlannedFault, Section};
use crate::profile::{Profile, Settings};
use crate::seed::Seed;

/// Share of the events that are posted with an idempotency key, in percent.
const KEYED_PERCENT: u32 = 50;
/// Share of the keyed events that are posted twice under their key, in percent.
const REPEATED_PERCENT: u32 = 10;

/// The plan of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Schedule<F> {
    /// The seed from which it was drawn.
    pub seed: Seed,
    /// The profile with which it was drawn.
    pub profile: Profile,
    /// The signing secret, in the form of the setting.
    pub secret: String,
    /// The events that are posted, in order of time.
    pub events: Vec<PlannedEvent>,
    /// The faults that are injected, in order of time.
    pub faults: Vec<PlannedFault<F>>,
}

/// A text that is not a schedule.
#[derive(Debug, thiserror::Error)]
#[error("the text is not a schedule")]
pub struct ScheduleError(#[from] serde_json::Error);

impl<F: Planned> Schedule<F> {
    /// Draws the events of a seed, and adds faults that the caller has drawn from the same seed.
    #[must_use]
    pub fn new(seed: Seed, profile: &Profile, faults: Vec<PlannedFault<F>>) -> Self {
        let attempts_max = profile.main_settings(F::KINDS).max_attempts;
        let mut events = main_events(seed, profile, attempts_max);
        events.extend(default_events(seed, profile));
        Self { seed, profile: profile.clone(), secret: secret(seed), events, faults }
    }

    /// The settings of the workers in the main section.
    #[must_use]
    pub fn main_settings(&self) -> Settings {
        self.profile.main_settings(F::KINDS)
    }

    /// The number of events that may be posted: those of the plan and those of faults.
    #[must_use]
    pub fn posts(&self) -> u64 {
        let of_faults = self.faults.iter().map(|planned| planned.fault.events());
        self.events.len() as u64 + of_faults.sum::<u64>()
    }

    /// The planned faults of each kind, by its name.
    #[must_use]
    pub fn faults_planned(&self) -> BTreeMap<String, PlannedKind> {
        let mut planned = BTreeMap::new();
        for planned_fault in &self.faults {
            let kind = planned_fault.fault.kind();
            let none = PlannedKind { family: kind.family, harm: kind.harm, count: 0 };
            planned.entry(kind.name.to_owned()).or_insert(none).count += 1;
        }
        planned
    }

    /// The number of kills that must end an open request: the number of the profile, and at most
    /// the number of the plan.
    #[must_use]
    pub fn kills_required(&self) -> u32 {
        let kills = self.faults.iter();
        let kills = kills.filter(|planned| planned.fault.kind().is_kill());
        let planned = u32::try_from(kills.count()).unwrap_or(u32::MAX);
        self.profile.kills_required.min(planned)
    }

    /// Returns true if a fault of the plan needs proxies on the links, or starts when a statement
    /// passes on a link.
    #[must_use]
    pub fn needs_links(&self) -> bool {
        let mut conditions = self.faults.iter().map(|planned| planned.trigger.on);
        self.needs(|needs| needs.links) || conditions.any(Condition::is_on_a_link)
    }

    /// Returns true if a fault of the plan needs a Postgres server that only this run uses.
    #[must_use]
    pub fn needs_own_postgres(&self) -> bool {
        self.needs(|needs| needs.own_postgres)
    }

    /// Returns true if a fault of the plan needs a small file system for the data of that server.
    #[must_use]
    pub fn needs_small_disk(&self) -> bool {
        self.needs(|needs| needs.small_disk)
    }

    /// Returns true if a fault of the plan needs a clock of that server that can be moved.
    #[must_use]
    pub fn needs_clock(&self) -> bool {
        self.needs(|needs| needs.clock)
    }

    /// Returns true if a fault of the plan needs workers with a separate `/etc/hosts`.
    #[must_use]
    pub fn needs_hosts(&self) -> bool {
        self.needs(|needs| needs.hosts)
    }

    fn needs(&self, needed: fn(&Needs) -> bool) -> bool {
        let mut faults = self.faults.iter();
        faults.any(|planned| needed(&planned.fault.kind().needs))
    }
}

impl<F: Serialize + DeserializeOwned> Schedule<F> {
    /// The text form.
    #[must_use]
    pub fn to_text(&self) -> String {
        serde_json::to_string_pretty(self).expect("a schedule has only JSON values") + "\n"
    }

    /// Reads the text form.
    ///
    /// # Errors
    /// The text is not a schedule, or names a fault or a parameter that does not exist.
    pub fn from_text(text: &str) -> Result<Self, ScheduleError> {
        Ok(serde_json::from_str(text)?)
    }
}

impl<F> Schedule<F> {
    /// The events that must become dead, by ordinal, with the reason.
    #[must_use]
    pub fn deaths(&self) -> BTreeMap<u64, String> {
        let deaths = self.events.iter();
        deaths.filter_map(|event| Some((event.ordinal, event.dies.clone()?))).collect()
    }

    /// The events of one section, in order of time.
    pub fn section(&self, section: Section) -> impl Iterator<Item = &PlannedEvent> {
        self.events.iter().filter(move |event| event.section == section)
    }
}

fn main_events(seed: Seed, profile: &Profile, attempts_max: u32) -> Vec<PlannedEvent> {
    let mut keys = seed.stream("workload/keys");
    let mut targets = seed.stream("workload/targets");
    let mut payloads = seed.stream("workload/payloads");
    let mut scripts = seed.stream("receivers/scripts");
    let mut deaths = seed.stream("receivers/deaths");
    let plan = |(ordinal, at_ms): (usize, u64)| {
        let ordinal = ordinal as u64;
        let keyed = keys.random_range(0..100) < KEYED_PERCENT;
        let (script, dies) = if at_ms < profile.baseline_ms {
            (vec![Behavior::answer(200)], None)
        } else if deaths.random_range(0..100) < profile.dead_percent {
            let (script, reason) = script::deadly(&mut deaths, profile, attempts_max);
            (script, Some(reason))
        } else {
            (script::surviving(&mut scripts, profile), None)
        };
        PlannedEvent {
            ordinal,
            section: Section::Main,
            at_ms,
            receiver: targets.random_range(0..profile.receivers),
            key: keyed.then(|| format!("key-{seed}-{ordinal}")),
            repeated: keyed && keys.random_range(0..100) < REPEATED_PERCENT,
            payload: payload::draw(&mut payloads, profile.payload_bytes_max),
            script,
            dies,
        }
    };
    post_times(seed, profile).into_iter().enumerate().map(plan).collect()
}

/// When the events of the main section are posted, in milliseconds: evenly in the baseline, at
/// random times in the storm.
fn post_times(seed: Seed, profile: &Profile) -> Vec<u64> {
    let mut times = seed.stream("workload/times");
    let quiet = u64::from(profile.baseline_events());
    let in_storm = u64::from(profile.events - profile.default_events) - quiet;
    let mut at_ms: Vec<u64> = (0..in_storm)
        .map(|_| profile.baseline_ms + times.random_range(0..profile.storm_ms))
        .collect();
    at_ms.sort_unstable();
    let evenly = |number| number * profile.baseline_ms / quiet;
    (0..quiet).map(evenly).chain(at_ms).collect()
}

/// A few events for the dispatcher with default settings. Each is refused three times, so that the
/// run shows the gaps of the default backoff.
fn default_events(seed: Seed, profile: &Profile) -> Vec<PlannedEvent> {
    let mut payloads = seed.stream("defaults/payloads");
    let plan = |number: u32| PlannedEvent {
        ordinal: u64::from(profile.events - profile.default_events + number),
        section: Section::Defaults,
        at_ms: u64::from(number) * 50,
        receiver: profile.receivers,
        key: None,
        repeated: false,
        payload: payload::draw(&mut payloads, 256),
        script: vec![Behavior::answer(500); 3],
        dies: None,
    };
    (0..profile.default_events).map(plan).collect()
}

fn secret(seed: Seed) -> String {
    use base64::Engine as _;
    let mut draws = seed.stream("secret");
    let key: [u8; 32] = std::array::from_fn(|_| draws.random_range(0..=255));
    format!("whsec_{}", base64::engine::general_purpose::STANDARD.encode(key))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use proptest::prelude::*;

    use super::*;
    use crate::nemesis::Schedule;

    fn small() -> Profile {
        let events = 6;
        Profile {
            events,
            payload_bytes_max: 300,
            kills: 3,
            default_events: 1,
            ..Profile::chaotic()
        }
    }

    proptest! {
        #[test]
        fn seed_gives_one_text_that_reads_back(number: u64) {
            let schedule = Schedule::generate(Seed::new(number), &small());
            let again = Schedule::generate(Seed::new(number), &small());
            prop_assert_eq!(schedule.to_text(), again.to_text());
            prop_assert_eq!(Schedule::from_text(&schedule.to_text()).unwrap(), schedule);
        }

        #[test]
        fn scripts_end_before_the_budget_and_payloads_are_json(number: u64) {
            let profile = small();
            for event in Schedule::generate(Seed::new(number), &profile).events {
                prop_assert!(event.script.len() < profile.settings.max_attempts as usize);
                prop_assert!(event.script.iter().all(|b| b.validate().is_ok()));
                let raw = serde_json::from_str::<&serde_json::value::RawValue>(&event.payload);
                prop_assert!(raw.is_ok(), "{}", event.payload);
            }
        }
    }

    #[test]
    fn baseline_has_its_share_of_the_events_and_no_failure() {
        let profile = Profile { baseline_ms: 1_000, storm_ms: 4_000, ..small() }.with_events(26);
        let drawn = |profile: &Profile| Schedule::generate(Seed::new(7), profile);
        let main: Vec<PlannedEvent> = drawn(&profile).section(Section::Main).cloned().collect();
        let (quiet, storm) = main.split_at(5);
        let at_ms: Vec<u64> = quiet.iter().map(|event| event.at_ms).collect();
        assert_eq!(at_ms, [0, 200, 400, 600, 800]);
        assert!(quiet.iter().all(|event| event.script == [Behavior::answer(200)]));
        assert!(storm.iter().all(|event| (1_000..5_000).contains(&event.at_ms)));
        let without = drawn(&Profile { baseline_ms: 0, ..profile });
        assert!(!without.to_text().contains("baseline_ms"));
    }

    #[test]
    fn seven_of_ten_first_attempts_fail_and_faults_ignore_event_count() {
        let seed = Seed::new(0x5eed);
        let many = Schedule::generate(seed, &Profile { events: 2_000, ..Profile::chaotic() });
        let failing = many.section(Section::Main).filter(|event| event.script.len() > 1).count();
        // All but 148 of them are posted in the storm.
        assert!((1_200..1_400).contains(&failing), "{failing} of 2000");
        assert_eq!(many.faults, Schedule::generate(seed, &Profile::chaotic()).faults);
    }

    #[test]
    fn schedule_of_a_seed_is_pinned() {
        let schedule = Schedule::generate(Seed::new(0x5eed), &small());
        insta::assert_snapshot!("schedule", schedule.to_text());
    }
}
