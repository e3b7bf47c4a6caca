//! SIGTERM of each worker in turn, as a rolling restart does it: the next only when the last is back.
//!
//! Endangers: what was in flight, duplicates, the grace. The effect is the exit that was waited for;
//! how it went is the checker's `graceful_stop`.

use std::time::Duration;

use rand::RngExt;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::draw::spread;
use super::{Applied, Fault, PlannedFault, Sight, World};
use crate::fault::{Aftermath, Family, Harm, Kills, Kind, Needs};
use crate::profile::Profile;
use crate::seed::Seed;
use crate::system::System;

pub(super) const KIND: Kind = Kind {
    name: "worker.terminate",
    family: Family::Worker,
    about: "SIGTERM of each worker in turn, within its grace, and its restart",
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

/// What a stop may take beyond `SHUTDOWN_SECONDS` before it is forced, in milliseconds.
pub(super) const STOP_SLACK_MS: u64 = 5_000;
/// Longest time that a stopped worker stays away, in milliseconds.
const RESTART_AFTER_MS_MAX: u64 = 600;

/// SIGTERM of every worker, one after the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminateWorker {
    /// Which worker is the first, from 0.
    pub first: u32,
    /// How long each stays away, in milliseconds.
    pub restart_after_ms: u64,
}

pub(super) fn draw(seed: Seed, profile: &Profile) -> Vec<PlannedFault> {
    spread(seed, profile, &KIND, |draws| {
        let terminate = TerminateWorker {
            first: draws.random_range(0..profile.workers),
            restart_after_ms: draws.random_range(0..=RESTART_AFTER_MS_MAX),
        };
        let on = Sight::OpenRequests(profile.workers);
        (on, Fault::TerminateWorker(terminate))
    })
}

impl TerminateWorker {
    pub(super) async fn apply<S: System>(&self, world: &mut World<'_, S>, fault: u64) -> Applied {
        let workers = world.workers;
        let begun = world.begin(fault, &KIND, world.all_workers());
        let mut ends = Vec::new();
        for number in 0..workers.len() {
            let spec = &workers[(self.first as usize + number) % workers.len()];
            let asked_us = world.recorder.now_us();
            let grace = Duration::from_millis(world.settings.shutdown_ms() + STOP_SLACK_MS);
            let exit = world.terminate(&spec.name, fault, grace).await?;
            let took_ms = (world.recorder.now_us() - asked_us) / 1_000;
            ends.push(format!("{}: {exit} after {took_ms} ms", spec.name));
            sleep(Duration::from_millis(self.restart_after_ms)).await;
            world.bring_up(spec).await?;
        }
        let observed = Some(ends.join(", "));
        world.effect(&begun, begun.start_us, Vec::new(), observed);
        world.end(&begun);
        Ok(())
    }
}

/// Brings back whoever is away.
pub(super) async fn heal<S: System>(world: &mut World<'_, S>) -> Applied {
    world.bring_all_up().await
}
