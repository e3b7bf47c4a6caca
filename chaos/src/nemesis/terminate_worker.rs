//! SIGTERM of each worker in turn, as in a rolling restart: the next worker stops when the last is
//! ready again.
//!
//! Endangers: open attempts, duplicates, the shutdown grace. The effect is the exit of each worker.
//! The checker `graceful_stop` judges how they exited.

use std::time::Duration;

use rand::RngExt;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::strike::{Draw, Observed, Start, Strike};
use super::world::World;
use crate::fault::{Aftermath, Family, Harm, Kills, Kind, Needs, Target};
use crate::plan::{Condition, PlannedFault};
use crate::system::{System, SystemError};

/// Longest time until a stopped worker is started again, in milliseconds.
const RESTART_AFTER_MS_MAX: u64 = 600;

/// The harm of a stop by SIGTERM.
pub(super) const HARM: Harm = Harm {
    kills: Kills::Nothing,
    stops_workers: true,
    expires_leases: false,
    loses_settles: false,
    loses_presence: false,
    loses_requests: false,
    withholds_responses: false,
    exhausts_machine: false,
    logs_errors: false,
    denies_database: false,
    abandons_max: 0,
    aftermath: Aftermath::Leases { attempts: 1 },
};

/// SIGTERM of every worker, one after the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminateWorker {
    /// The worker that stops first, from 0.
    pub first: u32,
    /// Time until each worker is started again, in milliseconds.
    pub restart_after_ms: u64,
}

impl Strike for TerminateWorker {
    const KIND: Kind = Kind {
        name: "worker.terminate",
        family: Family::Worker,
        about: "SIGTERM of each worker in turn, within its grace, and its restart",
        needs: Needs::NOTHING,
        harm: HARM,
    };

    fn draw(draw: &Draw<'_>) -> Vec<PlannedFault<Self>> {
        draw.spread(|draws| {
            let terminate = Self {
                first: draws.random_range(0..draw.profile.workers),
                restart_after_ms: draws.random_range(0..=RESTART_AFTER_MS_MAX),
            };
            (Condition::OpenRequests(draw.profile.workers), terminate)
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
        let workers = world.workers;
        let (mut stopped, mut exits) = (Vec::new(), Vec::new());
        for number in 0..workers.len() {
            let spec = &workers[(self.first as usize + number) % workers.len()];
            let stop = world.terminate(&spec.name).await?;
            let took_ms = (stop.ended_us - stop.asked_us) / 1_000;
            exits.push(format!("{}: {} after {took_ms} ms", spec.name, stop.exit));
            stopped.push(stop);
            sleep(Duration::from_millis(self.restart_after_ms)).await;
            world.bring_up(spec).await?;
        }
        Ok(Observed { stopped, ..Observed::seen(start.at_us, Some(exits.join(", "))) })
    }

    async fn heal<S: System>(&self, world: &mut World<'_, S>) -> Result<(), SystemError> {
        world.bring_all_up().await
    }
}
