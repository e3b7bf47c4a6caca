//! Other numbers of workers: one, all, none, two, and all again, by SIGTERM and start.
//!
//! Endangers: open attempts, lease exclusion, liveness. The effect is the number of workers that
//! ran.

use std::time::Duration;

use rand::RngExt;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::strike::{Draw, Observed, Start, Stopped, Strike};
use super::terminate_worker::HARM;
use super::world::World;
use crate::fault::{Family, Kind, Needs, Target};
use crate::plan::{Condition, PlannedFault};
use crate::system::{System, SystemError};

/// Numbers of workers in turn, capped at the number of the plan.
const STEPS: &[u32] = &[1, u32::MAX, 0, 2];
/// Longest time for which a number is kept, in milliseconds.
const KEEP_MS_MAX: u64 = 1_200;

/// Changes of the number of workers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scale {
    /// Number of workers and time in milliseconds, for each step.
    pub steps: Vec<(u32, u64)>,
}

impl Strike for Scale {
    const KIND: Kind = Kind {
        name: "worker.scale",
        family: Family::Worker,
        about: "one worker, all, none, two, and back to all",
        needs: Needs::NOTHING,
        harm: HARM,
    };

    fn draw(draw: &Draw<'_>) -> Vec<PlannedFault<Self>> {
        draw.spread(|draws| {
            let mut step = |workers: &u32| {
                let keep_ms = draws.random_range(0..=KEEP_MS_MAX);
                ((*workers).min(draw.profile.workers), keep_ms)
            };
            let steps = STEPS.iter().map(&mut step).collect();
            (Condition::Time, Self { steps })
        })
    }

    fn target(&self) -> Target {
        Target::EveryWorker
    }

    async fn strike<S: System>(
        &self,
        world: &mut World<'_, S>,
        start: &Start,
    ) -> Result<Observed, SystemError> {
        let (mut stopped, mut ran) = (Vec::new(), Vec::new());
        for (wanted, keep_ms) in &self.steps {
            stopped.extend(scale_to(world, *wanted).await?);
            let running = world.workers.iter();
            let running = running.filter(|spec| world.system.is_running(&spec.name));
            ran.push(running.count().to_string());
            sleep(Duration::from_millis(*keep_ms)).await;
        }
        Ok(Observed {
            stopped,
            ..Observed::seen(start.at_us, Some(format!("ran {} workers", ran.join(", "))))
        })
    }

    async fn heal<S: System>(&self, world: &mut World<'_, S>) -> Result<(), SystemError> {
        world.bring_all_up().await
    }
}

async fn scale_to<S: System>(
    world: &mut World<'_, S>,
    wanted: u32,
) -> Result<Vec<Stopped>, SystemError> {
    let mut stopped = Vec::new();
    for (spec, number) in world.workers.iter().zip(0..) {
        if number < wanted {
            world.bring_up(spec).await?;
        } else if world.system.is_running(&spec.name) {
            stopped.push(world.terminate(&spec.name).await?);
        }
    }
    Ok(stopped)
}
