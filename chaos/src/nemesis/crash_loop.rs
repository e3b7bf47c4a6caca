//! SIGKILL of one worker several times in a row, each soon after its start.
//!
//! Endangers: the budget of abandoned attempts, liveness, duplicates. The backoff after abandoned
//! attempts must slow a crash loop down before events die of it.

use std::time::Duration;

use rand::RngExt;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::strike::{Draw, Observed, Start, Strike};
use super::world::World;
use crate::fault::{Aftermath, Family, Harm, Kills, Kind, Needs, Target};
use crate::plan::{Condition, PlannedFault};
use crate::system::{System, SystemError};

/// Minimum number of kills in one crash loop.
const KILLS_MIN: u32 = 3;
/// Maximum number of kills in one crash loop.
const KILLS_MAX: u32 = 5;
/// Longest time between a start and the next kill, in milliseconds. It ranges from not yet ready to
/// busy.
const LIFE_MS_MAX: u64 = 700;

/// SIGKILL of one worker, several times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrashLoop {
    /// The worker, from 0.
    pub worker: u32,
    /// How long the worker runs after each start except the last, in milliseconds.
    pub lives_ms: Vec<u64>,
}

impl Strike for CrashLoop {
    const KIND: Kind = Kind {
        name: "worker.crash_loop",
        family: Family::Worker,
        about: "SIGKILL of a worker several times in a row, each soon after its start",
        needs: Needs::NOTHING,
        harm: Harm {
            kills: Kills::WorkersUntilHealed,
            stops_workers: false,
            expires_leases: false,
            loses_settles: false,
            loses_presence: false,
            loses_requests: false,
            withholds_responses: false,
            exhausts_machine: false,
            logs_errors: false,
            denies_database: false,
            abandons_max: KILLS_MAX,
            aftermath: Aftermath::Leases { attempts: KILLS_MAX },
        },
    };

    fn draw(draw: &Draw<'_>) -> Vec<PlannedFault<Self>> {
        draw.spread(|draws| {
            let kills = draws.random_range(KILLS_MIN..=KILLS_MAX);
            let crash_loop = Self {
                worker: draws.random_range(0..draw.profile.workers),
                lives_ms: (1..kills).map(|_| draws.random_range(0..=LIFE_MS_MAX)).collect(),
            };
            (Condition::OpenRequests(1), crash_loop)
        })
    }

    fn target(&self) -> Target {
        Target::Worker(self.worker)
    }

    async fn strike<S: System>(
        &self,
        world: &mut World<'_, S>,
        start: &Start,
    ) -> Result<Observed, SystemError> {
        let spec = world.worker(self.worker).clone();
        world.kill(&spec.name).await?;
        let effective_us = world.recorder.now_us();
        let mut kills = 1;
        for life_ms in &self.lives_ms {
            world.start(&spec).await?;
            sleep(Duration::from_millis(*life_ms)).await;
            world.kill(&spec.name).await?;
            kills += 1;
        }
        let seen = format!("killed {kills} times in a row");
        Ok(Observed {
            hit: world.went_away(start).await,
            ..Observed::seen(effective_us, Some(seen))
        })
    }

    async fn heal<S: System>(&self, world: &mut World<'_, S>) -> Result<(), SystemError> {
        let spec = world.worker(self.worker).clone();
        world.bring_up(&spec).await
    }
}
