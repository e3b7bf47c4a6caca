//! How long a drain may take: computed from the plan and the settings, so that it is a promise.

use std::time::Duration;

use mock_receiver::Behavior;

use crate::history::facts::{CRASHES_MAX, WORKER_CRASH_LOOP};
use crate::history::op::Section;
use crate::nemesis::BEYOND_LEASE_MS_MAX;
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
    for (name, count) in schedule.faults_planned() {
        let (most, costs_ms) = cost_of_one(&name, settings);
        failures += most * u64::from(count);
        costliest_ms = costliest_ms.max(costs_ms);
    }
    if failures == 0 {
        return costliest_ms;
    }
    let delay_ms = settings.delay_ms_max(u32::try_from(failures).unwrap_or(u32::MAX));
    costliest_ms + delay_ms + settings.poll_ms
}

/// How many attempts of one event a fault of this kind may spoil, and how long one event may still wait
/// for the end of its lease when the fault is healed, in milliseconds.
fn cost_of_one(name: &str, settings: &Settings) -> (u64, u64) {
    if name.starts_with("client.") {
        // A client costs the events of others nothing.
        return (0, 0);
    }
    let leased_ms = settings.lease_ms + RECLAIM_MS;
    if name.starts_with("net.") || name.starts_with("postgres.") {
        let outage_ms = settings.lease_ms + BEYOND_LEASE_MS_MAX;
        let spoiled = attempts_within(settings, outage_ms);
        return (spoiled, leased_ms + TRUST_MS);
    }
    match name {
        WORKER_CRASH_LOOP => (u64::from(CRASHES_MAX), leased_ms),
        _ => (1, leased_ms),
    }
}

/// How many attempts in a row fit into an outage at their shortest delays.
fn attempts_within(settings: &Settings, outage_ms: u64) -> u64 {
    let mut until_ms = 0;
    let mut attempts = 1;
    while attempts < u64::from(settings.max_attempts) {
        until_ms += settings.delay_ms(u32::try_from(attempts).unwrap_or(u32::MAX));
        if until_ms > outage_ms {
            break;
        }
        attempts += 1;
    }
    attempts
}

fn script_ms(event: &PlannedEvent, settings: &Settings) -> u64 {
    let attempts = event.script.iter().zip(1..).map(|(behavior, number)| {
        let answer_ms = match behavior {
            Behavior::Answer { after_ms, .. }
            | Behavior::ResetBeforeAnswer { after_ms }
            | Behavior::CloseBeforeAnswer { after_ms } => *after_ms,
            Behavior::Hang { .. } | Behavior::HangAfterHead { .. } => settings.http_timeout_ms,
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
    use crate::profile::Profile;
    use crate::seed::Seed;

    #[test]
    fn an_outage_costs_a_lease_the_trust_after_it_and_the_delay_that_it_led_to() {
        let settings = Settings::scaled();
        // 100, 200, 400, 800 ms, and then a second each, in 6.5 s: the tenth begins after 6.5 s.
        assert_eq!(attempts_within(&settings, 6_500), 10);
        let bound = |faults: &[&str]| {
            let mut profile = Profile::calm();
            for fault in faults {
                profile = profile.with_fault(fault, 1);
            }
            drain(&Schedule::generate(Seed::new(1), &profile)).as_millis()
        };
        let none = bound(&[]);
        assert_eq!(bound(&["worker.pause"]) - none, 4_000 + 5_000 + 125 + 250);
        let outage = 4_000 + 5_000 + 5_000 + 1_250 + 250;
        assert_eq!(bound(&["net.black_hole"]) - none, outage);
        assert_eq!(bound(&["net.black_hole", "worker.pause"]) - none, outage);
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
