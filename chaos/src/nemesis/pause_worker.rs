//! SIGSTOP of one worker, or of all, past the lease, then SIGCONT.
//!
//! Endangers: fencing, lease exclusion, terminal states, duplicates. A worker that resumes still
//! has attempts whose leases have ended. The driver observes the effect in the state of the
//! process.

use std::time::Duration;

use rand::RngExt;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::observed::BEYOND_LEASE_MS_MAX;
use super::strike::{Draw, Observed, Start, Strike};
use super::world::World;
use crate::fault::{Aftermath, Family, Harm, Kills, Kind, Needs, Target};
use crate::plan::{Condition, PlannedFault};
use crate::system::{System, SystemError};

/// Shortest time that a pause lasts beyond the lease, in milliseconds. Workers look for expired
/// leases at intervals.
const BEYOND_LEASE_MS_MIN: u64 = 500;
/// Of four pauses, this number stops every worker.
const OF_ALL_OF_4: u32 = 1;

/// SIGSTOP and SIGCONT of workers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PauseWorker {
    /// The worker, from 0. Absent if every worker is paused.
    pub worker: Option<u32>,
    /// Duration, in milliseconds.
    pub for_ms: u64,
}

impl Strike for PauseWorker {
    const KIND: Kind = Kind {
        name: "worker.pause",
        family: Family::Worker,
        about: "SIGSTOP of a worker, or of all, past the lease, then SIGCONT",
        needs: Needs::NOTHING,
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
        draw.spread(|draws| {
            let worker = draws.random_range(0..draw.profile.workers);
            let all = draws.random_range(0..4) < OF_ALL_OF_4;
            let beyond = draws.random_range(BEYOND_LEASE_MS_MIN..=BEYOND_LEASE_MS_MAX);
            let pause = Self {
                worker: (!all).then_some(worker),
                for_ms: draw.profile.settings.lease_ms + beyond,
            };
            (Condition::OpenRequests(draw.profile.workers), pause)
        })
    }

    fn target(&self) -> Target {
        self.worker.map_or(Target::EveryWorker, Target::Worker)
    }

    async fn strike<S: System>(
        &self,
        world: &mut World<'_, S>,
        _: &Start,
    ) -> Result<Observed, SystemError> {
        for name in &self.names(world) {
            world.apis.set_ready(name, false);
            world.system.pause(name).await?;
        }
        let effective_us = world.recorder.now_us();
        sleep(Duration::from_millis(self.for_ms)).await;
        let paused_ms = (world.recorder.now_us() - effective_us) / 1_000;
        let seen = format!("paused for {paused_ms} ms");
        Ok(Observed::seen(effective_us, Some(seen)))
    }

    async fn heal<S: System>(&self, world: &mut World<'_, S>) -> Result<(), SystemError> {
        for name in self.names(world) {
            // A worker that was killed in the meantime cannot be resumed.
            if world.system.is_running(&name) {
                world.system.resume(&name).await?;
                world.apis.set_ready(&name, true);
            }
        }
        Ok(())
    }
}

impl PauseWorker {
    fn names<S: System>(&self, world: &World<'_, S>) -> Vec<String> {
        let all = world.workers.iter().map(|spec| spec.name.clone());
        match self.worker {
            Some(number) => vec![world.worker(number).name.clone()],
            None => all.collect(),
        }
    }
}
