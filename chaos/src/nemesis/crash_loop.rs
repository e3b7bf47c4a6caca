//! SIGKILL of one worker again and again, each time as soon as it has begun to work.
//!
//! Endangers: the budget of abandonments, liveness, duplicates. A crash loop must be slowed by the
//! backoff of abandonments, not burn innocent events.

use std::time::Duration;

use rand::RngExt;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::draw::spread;
use super::{Applied, Fault, PlannedFault, Sight, World};
use crate::fault::{Aftermath, Family, Harm, Kills, Kind, Needs, Target};
use crate::profile::Profile;
use crate::seed::Seed;
use crate::system::System;

pub(super) const KIND: Kind = Kind {
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
        abandons_max: KILLS_MAX,
        aftermath: Aftermath::Leases {
            attempts: KILLS_MAX,
        },
    },
};

/// Kills of one crash loop at least.
const KILLS_MIN: u32 = 3;
/// Kills of one crash loop at most.
const KILLS_MAX: u32 = 5;
/// Longest life between two kills, in milliseconds: from not yet ready to busy.
const LIFE_MS_MAX: u64 = 700;

/// SIGKILL, several times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrashLoop {
    /// Which worker, from 0.
    pub worker: u32,
    /// How long it lives after each start but the last, in milliseconds.
    pub lives_ms: Vec<u64>,
}

pub(super) fn draw(seed: Seed, profile: &Profile) -> Vec<PlannedFault> {
    spread(seed, profile, &KIND, |draws| {
        let kills = draws.random_range(KILLS_MIN..=KILLS_MAX);
        let crash_loop = CrashLoop {
            worker: draws.random_range(0..profile.workers),
            lives_ms: (1..kills)
                .map(|_| draws.random_range(0..=LIFE_MS_MAX))
                .collect(),
        };
        (Sight::OpenRequests(1), Fault::CrashLoop(crash_loop))
    })
}

impl CrashLoop {
    pub(super) async fn apply<S: System>(&self, world: &mut World<'_, S>, fault: u64) -> Applied {
        let spec = world.worker(self.worker).clone();
        let begun = world.begin(fault, &KIND, Target::Workers(vec![self.worker]));
        world.kill(&spec.name).await?;
        let effective_us = world.recorder.now_us();
        let mut kills = 1;
        for life_ms in &self.lives_ms {
            world.start(&spec).await?;
            sleep(Duration::from_millis(*life_ms)).await;
            world.kill(&spec.name).await?;
            kills += 1;
        }
        let hit = world.went_away(&begun).await;
        let observed = Some(format!("killed {kills} times in a row"));
        self.heal(world).await?;
        world.effect(&begun, effective_us, hit, observed);
        world.end(&begun);
        Ok(())
    }

    pub(super) async fn heal<S: System>(&self, world: &mut World<'_, S>) -> Applied {
        let spec = world.worker(self.worker).clone();
        world.bring_up(&spec).await
    }
}
