//! SIGSTOP of one worker past its lease, then SIGCONT: a zombie with attempts in hand.
//!
//! Endangers: fencing, lease exclusion, terminal states, duplicates. The other workers may live or
//! stand still, too. The effect is seen by the process's state, which the driver waits for.

use std::time::Duration;

use rand::RngExt;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::draw::spread;
use super::{Applied, BEYOND_LEASE_MS_MAX, Fault, PlannedFault, Sight, World};
use crate::fault::{Aftermath, Family, Harm, Kills, Kind, Needs, Target};
use crate::profile::Profile;
use crate::seed::Seed;
use crate::system::System;

pub(super) const KIND: Kind = Kind {
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
        abandons_max: 1,
        aftermath: Aftermath::Leases { attempts: 1 },
    },
};

/// How much longer than a lease a pause lasts at least, in milliseconds: the look for expired leases
/// comes every so often.
const BEYOND_LEASE_MS_MIN: u64 = 500;
/// Of four pauses, this many stop every worker.
const OF_ALL_OF_4: u32 = 1;

/// SIGSTOP and SIGCONT.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PauseWorker {
    /// Which worker, from 0; none for all of them.
    pub worker: Option<u32>,
    /// How long, in milliseconds.
    pub for_ms: u64,
}

pub(super) fn draw(seed: Seed, profile: &Profile) -> Vec<PlannedFault> {
    spread(seed, profile, &KIND, |draws| {
        let worker = draws.random_range(0..profile.workers);
        let all = draws.random_range(0..4) < OF_ALL_OF_4;
        let beyond = draws.random_range(BEYOND_LEASE_MS_MIN..=BEYOND_LEASE_MS_MAX);
        let pause = PauseWorker {
            worker: (!all).then_some(worker),
            for_ms: profile.settings.lease_ms + beyond,
        };
        (
            Sight::OpenRequests(profile.workers),
            Fault::PauseWorker(pause),
        )
    })
}

impl PauseWorker {
    pub(super) async fn apply<S: System>(&self, world: &mut World<'_, S>, fault: u64) -> Applied {
        let names = self.names(world);
        let begun = world.begin(fault, &KIND, self.target(world));
        for name in &names {
            world.apis.set_ready(name, false);
            world.system.pause(name).await?;
        }
        let effective_us = world.recorder.now_us();
        sleep(Duration::from_millis(self.for_ms)).await;
        self.heal(world).await?;
        let stood_ms = (world.recorder.now_us() - effective_us) / 1_000;
        let observed = format!("stood still for {stood_ms} ms");
        world.effect(&begun, effective_us, Vec::new(), Some(observed));
        world.end(&begun);
        Ok(())
    }

    pub(super) async fn heal<S: System>(&self, world: &mut World<'_, S>) -> Applied {
        for name in self.names(world) {
            // One that was killed meanwhile has no pause to end.
            if world.system.is_running(&name) {
                world.system.resume(&name).await?;
                world.apis.set_ready(&name, true);
            }
        }
        Ok(())
    }

    fn target<S>(&self, world: &World<'_, S>) -> Target {
        match self.worker {
            Some(number) => Target::Workers(vec![number]),
            None => world.all_workers(),
        }
    }

    fn names<S: System>(&self, world: &World<'_, S>) -> Vec<String> {
        let all = world.workers.iter().map(|spec| spec.name.clone());
        match self.worker {
            Some(number) => vec![world.worker(number).name.clone()],
            None => all.collect(),
        }
    }
}
