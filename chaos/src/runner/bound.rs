//! The time limit of a drain, computed from the plan and the settings. After it, an event that is
//! not final is a violation of liveness.

use std::collections::BTreeMap;
use std::time::Duration;

use mock_receiver::Behavior;

use crate::fault::Aftermath;
use crate::history::op::Section;
use crate::nemesis::Schedule;
use crate::plan::PlannedEvent;
use crate::profile::Settings;

/// Longest `Retry-After` in scripts, in milliseconds.
const RETRY_AFTER_MS: u64 = 1_000;
/// Time limit for a reclaim, in milliseconds, after the presence of a worker ended or its lease
/// expired.
const RECLAIM_MS: u64 = 5_000;
/// After an outage, a worker reclaims expired leases only when the database has responded for this
/// time, in milliseconds.
const TRUST_MS: u64 = 5_000;
/// Time per event of the backlog, in milliseconds.
const EVENT_MS: u64 = 10;
/// Limit of open attempts per worker and host, if the plan has none: the default of the dispatcher.
const PER_HOST: u32 = 64;
/// Longest delay of an event whose host is at its limit, in milliseconds.
const DELAY_MS_MAX: u64 = 60_000;

/// The sum of the longest script with its longest delays, the backlog, the aftermath of the faults,
/// and the slack of the profile.
pub(super) fn drain(schedule: &Schedule) -> Duration {
    let main = schedule.main_settings();
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
    let aftermath_ms = aftermath_ms(schedule, &main);
    Duration::from_millis(longest + backlog_ms + aftermath_ms + schedule.profile.drain_slack_ms)
}

/// Time that the faults of the plan may add after all of them are healed. Faults run one after the
/// other and an event has one wait at a time, so that the longest wait counts and not the sum. The
/// failures of all faults together may lengthen the delay before the next attempt.
fn aftermath_ms(schedule: &Schedule, settings: &Settings) -> u64 {
    let mut failures = 0_u64;
    let mut longest_ms = 0;
    for planned in schedule.faults_planned().values() {
        let cost = cost_of_one(planned.harm.aftermath, schedule, settings);
        failures += cost.attempts * u64::from(planned.count);
        longest_ms = longest_ms.max(cost.wait_ms);
    }
    if failures == 0 {
        return longest_ms;
    }
    let delay_ms = settings.delay_ms_max(u32::try_from(failures).unwrap_or(u32::MAX));
    longest_ms + delay_ms + settings.poll_ms
}

/// The cost of one fault for one event.
struct Cost {
    /// Attempts that may fail.
    attempts: u64,
    /// How long the event may still wait when the fault is healed: for the end of its lease, or for
    /// a place at its receiver.
    wait_ms: u64,
}

fn cost_of_one(aftermath: Aftermath, schedule: &Schedule, settings: &Settings) -> Cost {
    let leased_ms = settings.lease_ms + RECLAIM_MS;
    match aftermath {
        Aftermath::Nothing => Cost { attempts: 0, wait_ms: 0 },
        Aftermath::Leases { attempts } => {
            Cost { attempts: u64::from(attempts), wait_ms: leased_ms }
        }
        Aftermath::Outage { beyond_lease_ms } => {
            let outage_ms = settings.lease_ms + beyond_lease_ms;
            Cost {
                attempts: u64::from(settings.failures_within(outage_ms)),
                wait_ms: leased_ms + TRUST_MS,
            }
        }
        Aftermath::LargeEvents { for_ms } => Cost {
            attempts: u64::from(settings.failures_within(settings.lease_ms)),
            wait_ms: leased_ms + TRUST_MS + for_ms,
        },
        Aftermath::Receiver { for_ms } => Cost {
            attempts: u64::from(settings.failures_within(for_ms)),
            // An attempt that hangs at the heal ends at its deadline.
            wait_ms: settings.http_timeout_ms + queue_ms(schedule, settings),
        },
    }
}

/// How long an event may wait for a receiver that was healed, in milliseconds. Other events of the
/// receiver come first, and each of them may take a full deadline.
fn queue_ms(schedule: &Schedule, settings: &Settings) -> u64 {
    let mut queues = BTreeMap::new();
    for event in schedule.section(Section::Main) {
        *queues.entry(event.receiver).or_default() += 1_u64;
    }
    let largest = queues.into_values().max().unwrap_or(0);
    let open_max = settings.max_in_flight_per_host.unwrap_or(PER_HOST);
    let turns = largest.div_ceil(u64::from(open_max.max(1)));
    (turns * settings.http_timeout_ms).min(DELAY_MS_MAX)
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

    /// The time that these faults add to the bound, in milliseconds.
    fn added_ms(profile: &Profile, faults: &[Kind]) -> u64 {
        let bound = |profile: &Profile| drain(&Schedule::generate(Seed::new(1), profile));
        let with =
            faults.iter().fold(profile.clone(), |profile, fault| profile.with_fault(fault, 1));
        (bound(&with) - bound(profile)).as_millis() as u64
    }

    #[test]
    fn outage_adds_a_lease_the_trust_time_and_a_longer_delay() {
        // 100, 200, 400, 800 ms, and then a second each, in 6.5 s: the tenth begins after 6.5 s.
        assert_eq!(Settings::scaled().failures_within(6_500), 10);
        let added = |faults: &[Kind]| added_ms(&Profile::calm(), faults);
        assert_eq!(added(&[PauseWorker::KIND]), 4_000 + 5_000 + 125 + 250);
        let outage = 4_000 + 5_000 + 5_000 + 1_250 + 250;
        assert_eq!(added(&[BlackHole::KIND]), outage);
        assert_eq!(added(&[BlackHole::KIND, PauseWorker::KIND]), outage);
    }

    #[test]
    fn receiver_fault_adds_a_deadline_its_queue_and_a_longer_delay() {
        let few = |per_host| Profile {
            receivers: 1,
            settings: Settings { max_in_flight_per_host: per_host, ..Settings::scaled() },
            ..Profile::calm().with_events(102)
        };
        // A hundred in the main section: two turns of 64, or thirteen of 8.
        let (deadline, delay) = (1_500, 1_250 + 250);
        for (per_host, turns) in [(None, 2), (Some(8), 13)] {
            let added = added_ms(&few(per_host), &[HangReceiver::KIND]);
            assert_eq!(added, deadline + turns * 1_500 + delay);
        }
        let crowded = added_ms(&few(Some(1)), &[RefuseReceiver::KIND]);
        assert_eq!(crowded, deadline + DELAY_MS_MAX + delay);
    }

    #[test]
    fn endless_response_costs_the_full_deadline() {
        let settings = Settings::scaled();
        let lasts = |behavior| {
            let planned = Schedule::generate(Seed::new(1), &Profile::calm());
            let event = PlannedEvent { script: vec![behavior], ..planned.events[0].clone() };
            script_ms(&event, &settings)
        };
        let immediate = lasts(Behavior::answer(200));
        for kind in ["hang", "hang_after_head", "drip", "endless_body"] {
            let behavior = serde_json::from_value(serde_json::json!({ "kind": kind }));
            let behavior: Behavior = behavior.expect("each has defaults");
            assert_eq!(lasts(behavior), immediate + settings.http_timeout_ms, "{kind}");
        }
    }

    #[test]
    fn bound_is_above_the_longest_script_and_finite() {
        let schedule = Schedule::generate(Seed::new(1), &Profile::chaotic());
        let bound = drain(&schedule);
        // Three failures at the default settings alone take up to 17.5 s.
        assert!(bound > Duration::from_secs(18) && bound < Duration::from_secs(90), "{bound:?}");
    }
}
