//! How long a drain may take: computed from the plan and the settings, so that it is a promise.

use std::time::Duration;

use mock_receiver::Behavior;

use crate::history::op::Section;
use crate::profile::Settings;
use crate::schedule::{PlannedEvent, Schedule};

/// Longest `Retry-After` that scripts use, in milliseconds.
const RETRY_AFTER_MS: u64 = 1_000;
/// Presence decides at the latest after this, in milliseconds.
const RECLAIM_MS: u64 = 5_000;
/// What one event of the backlog costs at most, in milliseconds.
const EVENT_MS: u64 = 10;

/// The longest script at its longest delays, a lease, and the backlog, plus the profile's slack.
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
    let backlog_ms = schedule.events.len() as u64 * EVENT_MS;
    let reclaim_ms = if schedule.faults.is_empty() {
        0
    } else {
        main.lease_ms + RECLAIM_MS
    };
    Duration::from_millis(longest + backlog_ms + reclaim_ms + schedule.profile.drain_slack_ms)
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
