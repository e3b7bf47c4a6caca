//! Upper limits for posting, faults and final reads, so that each run ends.
//!
//! A dispatcher that accepts nothing, or whose API hangs, otherwise keeps the clients and the
//! faults waiting for hours. The limits exceed the duration of these parts on a loaded machine, so
//! a healthy run does not reach them. The limit of the drain is in `bound.rs`, because a checker
//! judges it.

use std::time::Duration;

use crate::nemesis::BEYOND_LEASE_MS_MAX;
use crate::nemesis::Schedule;

/// Maximum time from the start of a worker until it is ready. Its first start creates the schema.
pub(super) const READY_MAX: Duration = Duration::from_secs(60);
/// Maximum time of one post or one read on a loaded machine, in milliseconds.
const REQUEST_MS_MAX: u64 = 100;
/// Maximum time to restart workers or Postgres after one fault, in milliseconds.
const RESTART_MS_MAX: u64 = 20_000;

/// Maximum duration of baseline and storm: as planned, plus the longest delay by each fault.
pub(super) fn storm(schedule: &Schedule) -> Duration {
    let profile = &schedule.profile;
    let outage_ms = profile.settings.lease_ms + BEYOND_LEASE_MS_MAX + RESTART_MS_MAX;
    let faults = schedule.faults.iter();
    let delays_ms: u64 = faults.map(|planned| planned.trigger.within_ms + outage_ms).sum();
    let planned_ms = profile.baseline_ms + profile.storm_ms;
    Duration::from_millis(planned_ms + delays_ms + profile.drain_slack_ms)
}

/// Maximum time from the end of the storm until each planned post has an answer.
pub(super) fn posting(schedule: &Schedule) -> Duration {
    requests(schedule, schedule.posts())
}

/// Maximum duration of the final reads.
pub(super) fn final_reads(schedule: &Schedule) -> Duration {
    requests(schedule, schedule.posts())
}

fn requests(schedule: &Schedule, count: u64) -> Duration {
    Duration::from_millis(schedule.profile.drain_slack_ms + count * REQUEST_MS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nemesis::PauseWorker;
    use crate::profile::Profile;
    use crate::seed::Seed;

    #[test]
    fn limits_grow_with_events_and_faults() {
        let of = |profile: &Profile| Schedule::generate(Seed::new(1), profile);
        let calm = of(&Profile::calm().with_events(10));
        let more_events = of(&Profile::calm().with_events(110));
        let added = posting(&more_events) - posting(&calm);
        assert_eq!(added, Duration::from_millis(100 * REQUEST_MS_MAX));
        assert_eq!(final_reads(&calm), posting(&calm));
        let more_faults = of(&Profile::calm().with_events(10).with_fault(&PauseWorker::KIND, 1));
        let added = storm(&more_faults) - storm(&calm);
        assert!(added > Duration::from_millis(RESTART_MS_MAX), "{added:?}");
    }
}
