//! A clock of the database that steps ahead, and stays ahead until the end of the run.
//!
//! Endangers: leases and due times, which are times of the database; signatures, if they used that
//! clock; the report of the offset. Every open lease expires at the step, so attempts may be
//! abandoned and events sent twice. Later times of the rows are all on the moved clock, so their
//! differences are exact again. The heal therefore keeps the offset: after a step back, pending
//! events would be due minutes after the end of the run.
//!
//! Under the offset, Postgres does not end waiting statements in time, because of the library that
//! moves the clock (`postgres/machine/clock.rs`). So this fault is the last one of a run, and it
//! posts its own events. It lasts until each worker has warned, or for longer than the checker
//! permits. The effect is the measured step.

use futures_util::future::join_all;
use rand::RngExt;
use serde::{Deserialize, Serialize};
use tokio::time::timeout_at;

use super::client_event::{event, first_ordinal, key};
use super::outage::over_in;
use super::strike::{Draw, Observed, Start, Strike};
use super::world::World;
use crate::fault::{Aftermath, Family, Harm, Kills, Kind, Needs, Target};
use crate::plan::{Condition, PlannedFault};
use crate::system::{System, SystemError};

/// Smallest step, in seconds: twice the age that receivers accept for a signature.
const STEP_S_MIN: u32 = 600;
/// Largest step, in seconds.
const STEP_S_MAX: u32 = 3_600;
/// Fewest events that are posted after the step.
const EVENTS_MIN: u32 = 20;
/// Most events that are posted after the step.
const EVENTS_MAX: u32 = 40;
/// Time after the planned storm at which the fault is due, in milliseconds. No other fault is due
/// so late.
const LAST_MS: u64 = 1_000;
/// How long workers may take to warn, in milliseconds: longer than the checker permits.
const WARNED_MS_MAX: u64 = 26_000;
/// Largest error of the measured step, in seconds.
const MEASURED_WITHIN_S: f64 = 1.0;

/// A step of the clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockOffset {
    /// The step, in seconds.
    pub step_s: u32,
    /// Ordinal of the first event. The others follow.
    pub ordinal: u64,
    /// Number of receivers over which the events are spread.
    pub receivers: u32,
    /// Number of events that are posted after the step.
    pub events: u32,
}

impl Strike for ClockOffset {
    const KIND: Kind = Kind {
        name: "postgres.clock_offset",
        family: Family::Clock,
        about: "the clock of the database steps ahead by ten minutes to an hour and stays ahead",
        needs: Needs { clock: true, ..Needs::OWN_POSTGRES },
        harm: Harm {
            kills: Kills::Nothing,
            stops_workers: false,
            expires_leases: true,
            loses_settles: false,
            loses_presence: false,
            loses_requests: false,
            withholds_responses: false,
            exhausts_machine: false,
            logs_errors: false,
            denies_database: false,
            abandons_max: 1,
            aftermath: Aftermath::Leases { attempts: 1 },
        },
    };

    fn draw(draw: &Draw<'_>) -> Vec<PlannedFault<Self>> {
        let mut numbers = 0..;
        let mut faults = draw.spread(|draws| {
            let number = numbers.next().expect("the range has no end");
            let offset = Self {
                step_s: draws.random_range(STEP_S_MIN..=STEP_S_MAX),
                ordinal: first_ordinal(draw.kinds, &Self::KIND, number),
                receivers: draw.profile.receivers,
                events: draws.random_range(EVENTS_MIN..=EVENTS_MAX),
            };
            (Condition::Time, offset)
        });
        for planned in &mut faults {
            planned.trigger.at_ms = draw.profile.storm_ms + LAST_MS;
        }
        faults
    }

    fn target(&self) -> Target {
        Target::Postgres
    }

    fn events(&self) -> u64 {
        u64::from(self.events)
    }

    async fn strike<S: System>(
        &self,
        world: &mut World<'_, S>,
        start: &Start,
    ) -> Result<Observed, SystemError> {
        let before = Reading::of(world).await?;
        world.own_server()?.move_clock(i64::from(self.step_s))?;
        let after = Reading::of(world).await?;
        let effective_us = world.recorder.now_us();
        let events: Vec<_> = (0..self.events)
            .map(|number| {
                let ordinal = self.ordinal + u64::from(number);
                event(ordinal, number % self.receivers, Some(key(ordinal)))
            })
            .collect();
        join_all(events.iter().map(|event| world.workload.post_until_answered(event))).await;
        let until = over_in(WARNED_MS_MAX);
        let mut changed = world.recorder.changed();
        let warned = || world.recorder.warned_of_clocks(start.at_us).len();
        while warned() < world.workers.len() && timeout_at(until, changed.changed()).await.is_ok() {
        }
        let (warned, workers) = (warned(), world.workers.len());
        let step_s = after.seconds_ahead_of(&before);
        let is_step = (step_s - f64::from(self.step_s)).abs() < MEASURED_WITHIN_S;
        let seen = format!(
            "the clock of the database stepped by {step_s:.3} s; {warned} of {workers} workers warned"
        );
        Ok(Observed::seen(effective_us, is_step.then_some(seen)))
    }

    async fn heal<S: System>(&self, _: &mut World<'_, S>) -> Result<(), SystemError> {
        // The clock stays ahead: see the head of this file.
        Ok(())
    }
}

/// The clocks of the database and of the harness at one time, in microseconds.
struct Reading {
    database_us: i64,
    harness_us: u64,
}

impl Reading {
    async fn of<S>(world: &mut World<'_, S>) -> Result<Self, SystemError> {
        let database_us = world.own_server()?.clock_us().await?;
        Ok(Self { database_us, harness_us: world.recorder.now_us() })
    }

    /// The time by which the clock of the database advanced more than that of the harness.
    #[expect(clippy::cast_precision_loss, reason = "a step of hours is exact to the microsecond")]
    fn seconds_ahead_of(&self, before: &Self) -> f64 {
        let database_us = (self.database_us - before.database_us) as f64;
        let harness_us = (self.harness_us - before.harness_us) as f64;
        (database_us - harness_us) / 1e6
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nemesis::{Fault, draw};
    use crate::profile::Profile;
    use crate::seed::Seed;

    #[test]
    fn step_is_measured_without_the_time_that_passes() {
        let before = Reading { database_us: 5_000_000, harness_us: 1_000_000 };
        let after = Reading { database_us: 607_000_000, harness_us: 3_000_000 };
        assert!((after.seconds_ahead_of(&before) - 600.0).abs() < 1e-9);
    }

    // Later faults would meet statements that do not time out.
    #[test]
    fn clock_is_moved_after_every_other_fault() {
        for number in 0..50 {
            let faults = draw(Seed::new(number), &Profile::field());
            let last = faults.last().map(|planned| &planned.fault);
            assert!(matches!(last, Some(Fault::ClockOffset(_))), "{last:?}");
        }
    }
}
