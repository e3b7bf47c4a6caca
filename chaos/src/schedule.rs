//! The schedule: the whole plan of a run, drawn from the seed before anything starts.
//!
//! Plain data with a text form and equality. The same seed and profile give the same schedule; they
//! do not give the same interleaving, which belongs to real processes.

mod payload;
mod script;
mod start;

use std::collections::BTreeMap;

use rand::RngExt;
use serde::{Deserialize, Serialize};

use mock_receiver::Behavior;

use crate::fault::{Needs, PlannedKind};
use crate::history::op::Section;
use crate::nemesis::{PlannedFault, Sight};
use crate::profile::Profile;
use crate::seed::Seed;

/// Share of the events that are posted with an idempotency key, in percent.
const KEYED_PERCENT: u32 = 50;
/// Share of the keyed events that are posted a second time under their key, in percent.
const REPEATED_PERCENT: u32 = 10;

/// The plan of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// What it was drawn from.
    pub seed: Seed,
    /// The knobs that it was drawn with.
    pub profile: Profile,
    /// The secret that signs, as the setting is written.
    pub secret: String,
    /// What is posted, in order of time.
    pub events: Vec<PlannedEvent>,
    /// What is done to the system, in order of time.
    pub faults: Vec<PlannedFault>,
}

/// One event of the plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedEvent {
    /// Its number; carried in the path of its target.
    pub ordinal: u64,
    /// Where it belongs.
    pub section: Section,
    /// When it is posted, in milliseconds after the posting began: with the baseline, or with the storm
    /// where there is none.
    pub at_ms: u64,
    /// Which receiver is its target.
    pub receiver: u32,
    /// Its idempotency key.
    pub key: Option<String>,
    /// True when it is posted again, under the same key, after its 202.
    pub repeated: bool,
    /// The exact JSON text of its payload.
    pub payload: String,
    /// What the receiver does with attempt 1, 2, …; every later attempt is answered 200.
    pub script: Vec<Behavior>,
    /// Why it must die of that script; nothing for an event that must be delivered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dies: Option<String>,
}

/// Why a text is no schedule.
#[derive(Debug, thiserror::Error)]
#[error("this is no schedule")]
pub struct ScheduleError(#[from] serde_json::Error);

impl Schedule {
    /// Draws the plan of `seed` under `profile`.
    #[must_use]
    pub fn generate(seed: Seed, profile: &Profile) -> Schedule {
        let mut events = main_events(seed, profile);
        events.extend(default_events(seed, profile));
        Schedule {
            seed,
            profile: profile.clone(),
            secret: secret(seed),
            events,
            faults: PlannedFault::draw_all(seed, profile),
        }
    }

    /// The text form.
    #[must_use]
    pub fn to_text(&self) -> String {
        serde_json::to_string_pretty(self).expect("a schedule holds nothing that JSON cannot")
            + "\n"
    }

    /// Reads the text form.
    ///
    /// # Errors
    /// When the text is no schedule.
    pub fn from_text(text: &str) -> Result<Schedule, ScheduleError> {
        Ok(serde_json::from_str(text)?)
    }

    /// Events that may be posted in all: the planned ones, and those of faults.
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
            let none = PlannedKind {
                family: kind.family,
                harm: kind.harm,
                count: 0,
            };
            planned.entry(kind.name.to_owned()).or_insert(none).count += 1;
        }
        planned
    }

    /// The events that must die, by ordinal, and why.
    #[must_use]
    pub fn deaths(&self) -> BTreeMap<u64, String> {
        let deaths = self.events.iter();
        deaths
            .filter_map(|event| Some((event.ordinal, event.dies.clone()?)))
            .collect()
    }

    /// Kills that must have hit an open request: no more than the profile asks for and the plan has.
    #[must_use]
    pub fn kills_required(&self) -> u32 {
        let mut kills = 0;
        for planned in &self.faults {
            kills += u32::from(planned.fault.kind().is_kill());
        }
        self.profile.kills_required.min(kills)
    }

    /// Returns true if a fault of the plan needs proxies on the links, or begins when something passes
    /// on a link.
    #[must_use]
    pub fn needs_links(&self) -> bool {
        let mut sights = self.faults.iter().map(|planned| planned.trigger.on);
        self.needs(|needs| needs.links) || sights.any(Sight::is_on_a_link)
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

    fn needs(&self, what: fn(&Needs) -> bool) -> bool {
        let mut faults = self.faults.iter();
        faults.any(|planned| what(&planned.fault.kind().needs))
    }

    /// The events of one section, in order of time.
    pub fn section(&self, section: Section) -> impl Iterator<Item = &PlannedEvent> {
        self.events
            .iter()
            .filter(move |event| event.section == section)
    }
}

fn main_events(seed: Seed, profile: &Profile) -> Vec<PlannedEvent> {
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
            let (script, reason) = script::deadly(&mut deaths, profile);
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
    post_times(seed, profile)
        .into_iter()
        .enumerate()
        .map(plan)
        .collect()
}

/// When the events of the main section are posted: evenly in the baseline, by chance in the storm.
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

/// A few events at the dispatcher's default settings, each refused three times: they show the gaps.
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
    format!(
        "whsec_{}",
        base64::engine::general_purpose::STANDARD.encode(key)
    )
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use proptest::prelude::*;

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
        fn one_seed_gives_one_text_and_the_text_gives_the_schedule_back(number: u64) {
            let schedule = Schedule::generate(Seed::new(number), &small());
            let again = Schedule::generate(Seed::new(number), &small());
            prop_assert_eq!(schedule.to_text(), again.to_text());
            prop_assert_eq!(Schedule::from_text(&schedule.to_text()).unwrap(), schedule);
        }

        #[test]
        fn every_script_ends_before_the_budget_and_every_payload_is_json(number: u64) {
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
    fn the_baseline_has_its_share_of_the_events_and_no_failure_and_a_plan_without_one_is_as_it_was()
    {
        let profile = Profile {
            baseline_ms: 1_000,
            storm_ms: 4_000,
            ..small()
        }
        .with_events(26);
        let drawn = |profile: &Profile| Schedule::generate(Seed::new(7), profile);
        let main: Vec<PlannedEvent> = drawn(&profile).section(Section::Main).cloned().collect();
        let (quiet, storm) = main.split_at(5);
        let at_ms: Vec<u64> = quiet.iter().map(|event| event.at_ms).collect();
        assert_eq!(at_ms, [0, 200, 400, 600, 800]);
        assert!(
            quiet
                .iter()
                .all(|event| event.script == [Behavior::answer(200)])
        );
        assert!(
            storm
                .iter()
                .all(|event| (1_000..5_000).contains(&event.at_ms))
        );
        let without = drawn(&Profile {
            baseline_ms: 0,
            ..profile
        });
        assert!(!without.to_text().contains("baseline_ms"));
    }

    #[test]
    fn seven_of_ten_first_attempts_fail_and_the_kills_do_not_depend_on_the_number_of_events() {
        let seed = Seed::new(0x5eed);
        let many = Schedule::generate(
            seed,
            &Profile {
                events: 2_000,
                ..Profile::chaotic()
            },
        );
        let failing = many
            .section(Section::Main)
            .filter(|event| event.script.len() > 1)
            .count();
        // All but 148 of them are posted in the storm.
        assert!((1_200..1_400).contains(&failing), "{failing} of 2000");
        assert_eq!(
            many.faults,
            Schedule::generate(seed, &Profile::chaotic()).faults
        );
    }

    #[test]
    fn the_schedule_of_a_seed_is_pinned() {
        let schedule = Schedule::generate(Seed::new(0x5eed), &small());
        insta::assert_snapshot!("schedule", schedule.to_text());
    }
}
