//! Another number of workers: one, all, none, two, and back to all, by SIGTERM and start.
//!
//! Endangers: what was in flight, lease exclusion, liveness. The effect is the number that ran.

use std::time::Duration;

use rand::RngExt;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::draw::spread;
use super::terminate_worker::STOP_SLACK_MS;
use super::{Applied, Fault, PlannedFault, Sight, World};
use crate::fault::{Aftermath, Family, Harm, Kills, Kind, Needs};
use crate::profile::Profile;
use crate::seed::Seed;
use crate::system::System;

pub(super) const KIND: Kind = Kind {
    name: "worker.scale",
    family: Family::Worker,
    about: "one worker, all, none, two, and back to all",
    needs: Needs::NOTHING,
    harm: Harm {
        kills: Kills::Nothing,
        stops_workers: true,
        expires_leases: false,
        loses_settles: false,
        loses_presence: false,
        loses_requests: false,
        withholds_responses: false,
        exhausts_machine: false,
        logs_errors: false,
        abandons_max: 0,
        aftermath: Aftermath::Leases { attempts: 1 },
    },
};

/// How many workers there are in turn, at most as many as the plan has.
const STEPS: &[u32] = &[1, u32::MAX, 0, 2];
/// Longest time that a number of workers is kept, in milliseconds.
const KEEP_MS_MAX: u64 = 1_200;

/// Another number of workers, several times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scale {
    /// How many, and for how many milliseconds.
    pub steps: Vec<(u32, u64)>,
}

pub(super) fn draw(seed: Seed, profile: &Profile) -> Vec<PlannedFault> {
    spread(seed, profile, &KIND, |draws| {
        let mut step = |workers: &u32| {
            let keep_ms = draws.random_range(0..=KEEP_MS_MAX);
            ((*workers).min(profile.workers), keep_ms)
        };
        let scale = Scale {
            steps: STEPS.iter().map(&mut step).collect(),
        };
        (Sight::Time, Fault::Scale(scale))
    })
}

impl Scale {
    pub(super) async fn apply<S: System>(&self, world: &mut World<'_, S>, fault: u64) -> Applied {
        let begun = world.begin(fault, &KIND, world.all_workers());
        let mut seen = Vec::new();
        for (wanted, keep_ms) in &self.steps {
            scale_to(world, fault, *wanted).await?;
            let running = world.workers.iter();
            let running = running.filter(|spec| world.system.is_running(&spec.name));
            seen.push(running.count().to_string());
            sleep(Duration::from_millis(*keep_ms)).await;
        }
        let observed = Some(format!("ran {} workers", seen.join(", ")));
        heal(world).await?;
        world.effect(&begun, begun.start_us, Vec::new(), observed);
        world.end(&begun);
        Ok(())
    }
}

async fn scale_to<S: System>(world: &mut World<'_, S>, fault: u64, wanted: u32) -> Applied {
    for (spec, number) in world.workers.iter().zip(0..) {
        if number < wanted {
            world.bring_up(spec).await?;
        } else if world.system.is_running(&spec.name) {
            let grace = Duration::from_millis(world.settings.shutdown_ms() + STOP_SLACK_MS);
            world.terminate(&spec.name, fault, grace).await?;
        }
    }
    Ok(())
}

/// Brings back whoever is away.
pub(super) async fn heal<S: System>(world: &mut World<'_, S>) -> Applied {
    world.bring_all_up().await
}
