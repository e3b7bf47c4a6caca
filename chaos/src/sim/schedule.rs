//! The schedule of one simulated run: plain data that is drawn from the seed.
//!
//! Events and scripts have the form of the real tier. Faults have a separate form. Each family of
//! faults has a separate random stream, so that removing one family does not change the others.

mod crowd;
mod draw;

use serde::{Deserialize, Serialize};

use super::fault::PlannedFault;
use crate::plan::PlannedEvent;
use crate::profile::Settings;
use crate::seed::Seed;

/// Value of `tier` in the file of such a schedule.
pub const TIER: &str = "sim";

/// All input of a simulated run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SimSchedule {
    /// Always [`TIER`].
    pub tier: String,
    /// Seed of this schedule, and of the latencies and the jitter of the run.
    pub seed: Seed,
    /// Number of worker processes.
    pub workers: u32,
    /// Number of receivers. Each receiver has a separate host.
    pub receivers: u32,
    /// Maximum number of concurrent attempts per host (`MAX_IN_FLIGHT_PER_HOST`).
    pub per_host: u32,
    /// Settings of the workers.
    pub settings: Settings,
    /// Maximum latency of a store call, and of its reply, in milliseconds.
    pub store_ms_max: u64,
    /// Maximum latency of a request, and of its response, in milliseconds.
    pub wire_ms_max: u64,
    /// Percentage of claims that skip some of the due events.
    pub partial_claims_percent: u32,
    /// Duration of the baseline, in milliseconds. It is a part of the storm, and no fault strikes in
    /// it. Zero if the run has no baseline.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub quiet_ms: u64,
    /// Duration of the storm, in milliseconds. No fault strikes later.
    pub storm_ms: u64,
    /// Posted events in the order of their times.
    pub events: Vec<PlannedEvent>,
    /// Planned faults.
    pub faults: Vec<PlannedFault>,
}

/// Size of a drawn schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Number of posted events.
    pub events: u32,
    /// Number of worker processes.
    pub workers: u32,
}

impl Default for Size {
    fn default() -> Size {
        Size { events: 30, workers: 2 }
    }
}

/// A text that is not a schedule of the simulation.
#[derive(Debug, thiserror::Error)]
pub enum SimScheduleError {
    /// The text is not JSON of this form.
    #[error("this is no schedule of the simulation")]
    Unreadable(#[from] serde_json::Error),
    /// The schedule belongs to another tier.
    #[error("this schedule is for the tier {0:?}, not for {TIER:?}")]
    OtherTier(String),
}

impl SimSchedule {
    /// Returns the schedule as JSON.
    #[must_use]
    pub fn to_text(&self) -> String {
        serde_json::to_string_pretty(self).expect("a schedule holds nothing that JSON cannot")
            + "\n"
    }

    /// Parses a schedule from JSON.
    ///
    /// # Errors
    /// Returns an error if the text is not a schedule of the simulation.
    pub fn from_text(text: &str) -> Result<SimSchedule, SimScheduleError> {
        let schedule: SimSchedule = serde_json::from_str(text)?;
        if schedule.tier != TIER {
            return Err(SimScheduleError::OtherTier(schedule.tier));
        }
        Ok(schedule)
    }

    /// Returns the maximum duration of the drain in milliseconds: the sum of the longest attempts, the
    /// longest delays and the leases that may have to expire.
    #[must_use]
    pub fn drain_ms(&self) -> u64 {
        let s = &self.settings;
        let tries = u64::from(s.max_attempts + s.max_abandoned);
        let delays: u64 =
            (1..=s.max_attempts.max(s.max_abandoned)).map(|n| s.delay_ms_max(n)).sum();
        let held = s.lease_ms + RECLAIM_MS;
        let queued = self.events.len() as u64 / u64::from(s.max_in_flight.max(1)) + 1;
        2 * delays + tries * (s.http_timeout_ms * queued + s.poll_ms) + 3 * held + DEFERRAL_MS
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_zero(value: &u64) -> bool {
    *value == 0
}

/// Maximum time from the expiry of a lease to its reclaim, in milliseconds: 5 s of grace after an
/// outage, and 5 s between two reclaims.
pub const RECLAIM_MS: u64 = 11_000;
/// Maximum delay of an event whose host is at its limit, in milliseconds.
pub const DEFERRAL_MS: u64 = 65_000;

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn seed_gives_one_schedule_that_reads_back_from_its_text(number: u64) {
            let draw = || SimSchedule::generate(Seed::new(number), Size::default());
            let schedule = draw();
            prop_assert_eq!(&draw(), &schedule);
            prop_assert_eq!(SimSchedule::from_text(&schedule.to_text()).unwrap(), schedule);
        }
    }

    #[test]
    fn schedule_of_another_tier_is_refused() {
        let text = SimSchedule::generate(Seed::new(1), Size::default()).to_text();
        let other = text.replace(r#""tier": "sim""#, r#""tier": "real""#);
        assert!(matches!(SimSchedule::from_text(&other), Err(SimScheduleError::OtherTier(_))));
    }
}
