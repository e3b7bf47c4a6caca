//! The plan of one simulated run: drawn from the seed, plain data, equal to its own text.
//!
//! Events and their scripts are those of the real tier's schedules; faults are the simulation's
//! own. Every kind of fault is drawn from a stream of its own, so that leaving one out moves no
//! other.

mod draw;

use serde::{Deserialize, Serialize};

use super::fault::PlannedFault;
use crate::profile::Settings;
use crate::schedule::PlannedEvent;
use crate::seed::Seed;

/// What a file of such a schedule says first.
pub const TIER: &str = "sim";

/// Everything that a simulated run follows from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SimSchedule {
    /// Always [`TIER`].
    pub tier: String,
    /// What it was drawn from, and what latencies and jitter are drawn from.
    pub seed: Seed,
    /// Worker processes that share the store.
    pub workers: u32,
    /// Receivers, each a host of its own.
    pub receivers: u32,
    /// Attempts at one host at once (`MAX_IN_FLIGHT_PER_HOST`).
    pub per_host: u32,
    /// What the workers run with.
    pub settings: Settings,
    /// The longest way of a store call or its reply, in milliseconds.
    pub store_ms_max: u64,
    /// The longest way of a request or its answer, in milliseconds.
    pub wire_ms_max: u64,
    /// Chance that a claim takes only a part of what it could, in percent.
    pub partial_claims_percent: u32,
    /// Until when faults may strike, in milliseconds.
    pub storm_ms: u64,
    /// What is posted, in order of time.
    pub events: Vec<PlannedEvent>,
    /// What goes wrong.
    pub faults: Vec<PlannedFault>,
}

/// How big a drawn run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Events posted.
    pub events: u32,
    /// Worker processes.
    pub workers: u32,
}

impl Default for Size {
    fn default() -> Size {
        Size {
            events: 30,
            workers: 2,
        }
    }
}

/// Why a text is no schedule of the simulation.
#[derive(Debug, thiserror::Error)]
pub enum SimScheduleError {
    /// It cannot be read.
    #[error("this is no schedule of the simulation")]
    Unreadable(#[from] serde_json::Error),
    /// It is for something else.
    #[error("this schedule is for the tier {0:?}, not for {TIER:?}")]
    OtherTier(String),
}

impl SimSchedule {
    /// Draws the plan of `seed`.
    #[must_use]
    pub fn generate(seed: Seed, size: Size) -> SimSchedule {
        draw::schedule(seed, size)
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
    /// When the text is no schedule of the simulation.
    pub fn from_text(text: &str) -> Result<SimSchedule, SimScheduleError> {
        let schedule: SimSchedule = serde_json::from_str(text)?;
        if schedule.tier != TIER {
            return Err(SimScheduleError::OtherTier(schedule.tier));
        }
        Ok(schedule)
    }

    /// How long the drain may take, in milliseconds: every attempt at its longest, every delay at
    /// its longest, and every lease that may have to run out in between.
    #[must_use]
    pub fn drain_ms(&self) -> u64 {
        let s = &self.settings;
        let tries = u64::from(s.max_attempts + s.max_abandoned);
        let delays: u64 = (1..=s.max_attempts.max(s.max_abandoned))
            .map(|n| s.delay_ms_max(n))
            .sum();
        let held = s.lease_ms + RECLAIM_MS;
        let queued = self.events.len() as u64 / u64::from(s.max_in_flight.max(1)) + 1;
        2 * delays + tries * (s.http_timeout_ms * queued + s.poll_ms) + 3 * held + DEFERRAL_MS
    }
}

/// A lease that ran out is found out within this, in milliseconds: five seconds of trust after an
/// outage, and five between two looks.
pub const RECLAIM_MS: u64 = 11_000;
/// The longest time that an event stays away because of its host, in milliseconds.
pub const DEFERRAL_MS: u64 = 65_000;

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn one_seed_gives_one_schedule_and_its_text_gives_it_back(number: u64) {
            let draw = || SimSchedule::generate(Seed::new(number), Size::default());
            let schedule = draw();
            prop_assert_eq!(&draw(), &schedule);
            prop_assert_eq!(SimSchedule::from_text(&schedule.to_text()).unwrap(), schedule);
        }
    }

    #[test]
    fn a_schedule_of_the_real_tier_is_told_apart() {
        let text = SimSchedule::generate(Seed::new(1), Size::default()).to_text();
        let other = text.replace(r#""tier": "sim""#, r#""tier": "real""#);
        assert!(matches!(
            SimSchedule::from_text(&other),
            Err(SimScheduleError::OtherTier(_))
        ));
    }
}
