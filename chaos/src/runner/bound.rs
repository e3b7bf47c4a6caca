//! How long a drain may take: computed from the plan and the settings, so that it is a promise.

use std::collections::BTreeMap;
use std::time::Duration;

use mock_receiver::Behavior;

use crate::fault::Aftermath;
use crate::history::op::Section;
use crate::profile::Settings;
use crate::schedule::{PlannedEvent, Schedule};

/// Longest `Retry-After` that scripts use, in milliseconds.
const RETRY_AFTER_MS: u64 = 1_000;
/// Presence decides at the latest after this, in milliseconds; and a lease that has run out is found
/// within this, too.
const RECLAIM_MS: u64 = 5_000;
/// After an outage of the database, leases of others are ended by their time only once it has answered
/// for so long, in milliseconds.
const TRUST_MS: u64 = 5_000;
/// What one event of the backlog costs at most, in milliseconds.
const EVENT_MS: u64 = 10;
/// Attempts that a worker has open to one host at most, unless the plan says otherwise: the dispatcher's
/// own default.
const PER_HOST: u32 = 64;
/// How long an event is kept away from a host at its cap at most, in milliseconds.
const KEPT_AWAY_MS_MAX: u64 = 60_000;

/// The longest script at its longest delays, the backlog, and what the faults have left behind, plus the
/// profile's slack.
pub(super) fn drain(schedule: &Schedule) -> Duration {
    let main = schedule.profile.main_settings();
    let longest = schedule
        .events
        .iter()
        .map(|event| match event.section {
            Section::Main => script_ms(event, &main),
            Section::Defaults => script_ms(event, &Settings::defaults()),
        })
        .max()
        .unwrap_or(0);
    let backlog_ms = schedule.posts() * EVENT_MS;
    let left_ms = aftermath_ms(schedule, &main);
    Duration::from_millis(longest + backlog_ms + left_ms + schedule.profile.drain_slack_ms)
}

/// What the faults of the plan may have left behind when all of them are healed. They came one after the
/// other and an event waits for one thing at a time, so the costliest counts, not their sum; but each
/// may have made the delay before the next attempt longer.
fn aftermath_ms(schedule: &Schedule, settings: &Settings) -> u64 {
    let mut failures = 0_u64;
    let mut costliest_ms = 0;
    for planned in schedule.faults_planned().values() {
        let cost = cost_of_one(planned.harm.aftermath, schedule, settings);
        failures += cost.attempts * u64::from(planned.count);
        costliest_ms = costliest_ms.max(cost.wait_ms);
    }
    if failures == 0 {
        return costliest_ms;
    }
    let delay_ms = settings.delay_ms_max(u32::try_from(failures).unwrap_or(u32::MAX));
    costliest_ms + delay_ms + settings.poll_ms
}

/// The cost of one fault for one event.
struct Cost {
    /// Attempts that may fail.
    attempts: u64,
    /// How long the event may still wait when the fault is healed: for the end of its lease, or for a
    /// place at its receiver.
    wait_ms: u64,
}

fn cost_of_one(aftermath: Aftermath, schedule: &Schedule, settings: &Settings) -> Cost {
    let leased_ms = settings.lease_ms + RECLAIM_MS;
    match aftermath {
        Aftermath::Nothing => Cost {
            attempts: 0,
            wait_ms: 0,
        },
        Aftermath::Leases { attempts } => Cost {
            attempts: u64::from(attempts),
            wait_ms: leased_ms,
        },
        Aftermath::Outage { beyond_lease_ms } => {
            let outage_ms = settings.lease_ms + beyond_lease_ms;
            Cost {
                attempts: u64::from(settings.failures_within(outage_ms)),
                wait_ms: leased_ms + TRUST_MS,
            }
        }
        Aftermath::Receiver { for_ms } => Cost {
            attempts: u64::from(settings.failures_within(for_ms)),
            // An attempt that hangs at the heal ends at its deadline.
            wait_ms: settings.http_timeout_ms + crowd_ms(schedule, settings),
        },
    }
}

/// How long an event may be kept away from a receiver that was just healed, in milliseconds: it steps
/// aside for those before it, and at a receiver that hangs each of them takes a whole deadline.
fn crowd_ms(schedule: &Schedule, settings: &Settings) -> u64 {
    let mut crowds = BTreeMap::new();
    for event in schedule.section(Section::Main) {
        *crowds.entry(event.receiver).or_default() += 1_u64;
    }
    let largest = crowds.into_values().max().unwrap_or(0);
    let at_once = settings.max_in_flight_per_host.unwrap_or(PER_HOST);
    let turns = largest.div_ceil(u64::from(at_once.max(1)));
    (turns * settings.http_timeout_ms).min(KEPT_AWAY_MS_MAX)
}

fn script_ms(event: &PlannedEvent, settings: &Settings) -> u64 {
    let attempts = event.script.iter().zip(1..).map(|(behavior, number)| {
        let answer_ms = match behavior {
            Behavior::Answer { after_ms, .. }
            | Behavior::ResetBeforeAnswer { after_ms }
            | Behavior::CloseBeforeAnswer { after_ms } => *after_ms,
            Behavior::Hang { .. }
            | Behavior::HangAfterHead { .. }
            | Behavior::Drip { .. }
            | Behavior::EndlessBody { .. } => settings.http_timeout_ms,
            _ => 0,
        };
        let delay_ms = settings.delay_ms_max(number).max(RETRY_AFTER_MS);
        answer_ms + delay_ms + settings.poll_ms
    });
    attempts.sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Kind;
    use crate::nemesis::{BlackHole, HangReceiver, PauseWorker, RefuseReceiver};
    use crate::profile::Profile;
    use crate::seed::Seed;

    /// What these faults add to the bound, in milliseconds.
    fn added_ms(profile: &Profile, faults: &[Kind]) -> u64 {
        let bound = |profile: &Profile| drain(&Schedule::generate(Seed::new(1), profile));
        let with = faults.iter().fold(profile.clone(), |profile, fault| {
            profile.with_fault(fault, 1)
        });
        (bound(&with) - bound(profile)).as_millis() as u64
    }

    #[test]
    fn an_outage_costs_a_lease_the_trust_after_it_and_the_delay_that_it_led_to() {
        // 100, 200, 400, 800 ms, and then a second each, in 6.5 s: the tenth begins after 6.5 s.
        assert_eq!(Settings::scaled().failures_within(6_500), 10);
        let added = |faults: &[Kind]| added_ms(&Profile::calm(), faults);
        assert_eq!(added(&[PauseWorker::KIND]), 4_000 + 5_000 + 125 + 250);
        let outage = 4_000 + 5_000 + 5_000 + 1_250 + 250;
        assert_eq!(added(&[BlackHole::KIND]), outage);
        assert_eq!(added(&[BlackHole::KIND, PauseWorker::KIND]), outage);
    }

    #[test]
    fn a_receiver_that_was_away_costs_its_last_deadline_its_crowd_and_the_delay_that_it_led_to() {
        let few = |per_host| Profile {
            receivers: 1,
            settings: Settings {
                max_in_flight_per_host: per_host,
                ..Settings::scaled()
            },
            ..Profile::calm().with_events(102)
        };
        // A hundred in the main section: two turns of 64, or thirteen of 8.
        let (deadline, delay) = (1_500, 1_250 + 250);
        for (per_host, turns) in [(None, 2), (Some(8), 13)] {
            let added = added_ms(&few(per_host), &[HangReceiver::KIND]);
            assert_eq!(added, deadline + turns * 1_500 + delay);
        }
        let crowded = added_ms(&few(Some(1)), &[RefuseReceiver::KIND]);
        assert_eq!(crowded, deadline + KEPT_AWAY_MS_MAX + delay);
    }

    #[test]
    fn an_answer_that_does_not_end_costs_the_whole_deadline() {
        let settings = Settings::scaled();
        let lasts = |behavior| {
            let planned = Schedule::generate(Seed::new(1), &Profile::calm());
            let event = PlannedEvent {
                script: vec![behavior],
                ..planned.events[0].clone()
            };
            script_ms(&event, &settings)
        };
        let at_once = lasts(Behavior::answer(200));
        for kind in ["hang", "hang_after_head", "drip", "endless_body"] {
            let behavior = serde_json::from_value(serde_json::json!({ "kind": kind }));
            let behavior: Behavior = behavior.expect("each has defaults");
            assert_eq!(
                lasts(behavior),
                at_once + settings.http_timeout_ms,
                "{kind}"
            );
        }
    }

    #[test]
    fn the_bound_is_above_the_longest_script_and_stays_finite() {
        let schedule = Schedule::generate(Seed::new(1), &Profile::chaotic());
        let bound = drain(&schedule);
        // Three failures at the default settings alone take up to 17.5 s.
        assert!(
            bound > Duration::from_secs(18) && bound < Duration::from_secs(90),
            "{bound:?}"
        );
    }
}
