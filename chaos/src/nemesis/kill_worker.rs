//! SIGKILL of one worker while requests are open, and its restart.
//!
//! Endangers: acknowledged events, attempt numbers, duplicates, liveness. The effect counts only by
//! the open requests that ended because their sender was gone.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::RngExt;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, timeout_at};

use super::{Fault, PlannedFault, Trigger, World};
use crate::history::facts::WORKER_KILL;
use crate::history::op::{FaultEffect, FaultEnd, FaultStart, Op, PEER_CLOSED, Section, WorkerSeen};
use crate::profile::Profile;
use crate::recorder::Recorder;
use crate::seed::Seed;
use crate::system::{System, SystemError};

/// The fault's name in plans and histories.
pub(super) const NAME: &str = WORKER_KILL;
/// What it does, for `chaos list`.
pub(super) const WHAT: &str = "SIGKILL of a worker with open requests, and its restart";

/// Requests that a trigger asks for beyond one a worker, at most: with several workers the open ones
/// may all belong to another.
const OPEN_REQUESTS_MORE: u32 = 3;
/// How long a trigger waits for its requests, in milliseconds.
const WITHIN_MS: u64 = 10_000;
/// Longest time that a killed worker stays away, in milliseconds.
const RESTART_AFTER_MS_MAX: u64 = 1_200;

/// How long the receivers may take to notice that a sender is gone.
const NOTICE: Duration = Duration::from_millis(500);
/// How long a restarted worker may take until it is ready.
const READY: Duration = Duration::from_secs(60);

/// SIGKILL of one worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KillWorker {
    /// Which worker, from 0.
    pub worker: u32,
    /// How long it stays away, in milliseconds.
    pub restart_after_ms: u64,
}

/// Draws the kills of a run: one in each equal slice of the middle of the storm.
pub(super) fn draw(seed: Seed, profile: &Profile) -> Vec<PlannedFault> {
    let mut draws = seed.stream("nemesis/kill_worker");
    let begin = profile.storm_ms / 10;
    let slice = (profile.storm_ms - begin) / u64::from(profile.kills.max(1)) + 1;
    let plan = |number: u32| PlannedFault {
        trigger: Trigger {
            at_ms: begin + slice * u64::from(number) + draws.random_range(0..slice),
            open_requests: draws
                .random_range(profile.workers..=profile.workers + OPEN_REQUESTS_MORE),
            within_ms: WITHIN_MS,
        },
        fault: Fault::KillWorker(KillWorker {
            worker: draws.random_range(0..profile.workers),
            restart_after_ms: draws.random_range(0..=RESTART_AFTER_MS_MAX),
        }),
    };
    (0..profile.kills).map(plan).collect()
}

impl KillWorker {
    pub(super) async fn apply<S: System>(
        &self,
        world: &mut World<'_, S>,
        fault: u64,
    ) -> Result<(), SystemError> {
        let name = world.workers[self.worker as usize].name.clone();
        let open = world.recorder.open_requests();
        let start_us = world.recorder.record(Op::FaultStart(FaultStart {
            fault,
            f: NAME.into(),
            target: name.clone(),
            why: format!("{} requests are open", open.len()),
            open: open.keys().cloned().collect(),
        }));
        world.apis.set_ready(&name, false);
        world.system.kill(&name).await?;
        let effective_us = world.recorder.now_us();
        let hit = hit(world, &open, start_us).await;
        world.recorder.record(Op::FaultEffect(FaultEffect {
            fault,
            effective_us,
            hit,
        }));
        sleep(Duration::from_millis(self.restart_after_ms)).await;
        self.heal(world).await?;
        world.recorder.record(Op::FaultEnd(FaultEnd { fault }));
        Ok(())
    }

    pub(super) async fn heal<S: System>(
        &self,
        world: &mut World<'_, S>,
    ) -> Result<(), SystemError> {
        let spec = &world.workers[self.worker as usize];
        if world.system.is_running(&spec.name) {
            return Ok(());
        }
        let seen = |ready| {
            let worker = spec.name.clone();
            Op::Worker(WorkerSeen {
                worker,
                section: Section::Main,
                ready,
            })
        };
        world.system.start(spec).await?;
        world.recorder.record(seen(false));
        world.system.wait_ready(&spec.name, READY).await?;
        world.recorder.record(seen(true));
        world.apis.set_ready(&spec.name, true);
        Ok(())
    }
}

/// Those of the open requests whose sender went away now: the others belong to another worker.
async fn hit<S>(world: &World<'_, S>, open: &BTreeMap<String, u64>, start_us: u64) -> Vec<String> {
    let until = Instant::now() + NOTICE;
    let mut changed = world.recorder.changed();
    // Wakes at each line of the history and stops when all have ended or the time is over.
    while world.recorder.endings(open, start_us).len() < open.len() {
        if timeout_at(until, changed.changed()).await.is_err() {
            break;
        }
    }
    went_away(world.recorder, open, start_us, world.http_timeout_ms)
}

fn went_away(
    recorder: &Recorder,
    open: &BTreeMap<String, u64>,
    start_us: u64,
    http_timeout_ms: u64,
) -> Vec<String> {
    let gone = |how: &str| how == PEER_CLOSED || how == "hung_until_peer_closed";
    // An attempt of a living worker that runs into its deadline looks the same, but for its age.
    // Nine tenths: the deadline began before the request arrived.
    let deadline_us = http_timeout_ms * 900;
    let early = |req: &str, end_us: u64| {
        open.get(req)
            .is_some_and(|begin| end_us.saturating_sub(*begin) < deadline_us)
    };
    let endings = recorder.endings(open, start_us).into_iter();
    endings
        .filter(|(req, how, end_us)| gone(how) && early(req, *end_us))
        .map(|(req, ..)| req)
        .collect()
}
