//! SIGKILL of one worker, at a time or at what a receiver has just seen, and its restart.
//!
//! Endangers: acknowledged events, attempt numbers, duplicates, liveness. The effect counts only by
//! the open requests that ended because their sender was gone, or by the statement that had just passed.

use std::time::Duration;

use rand::RngExt;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::draw::spread;
use super::{Applied, Fault, PlannedFault, Sight, World};
use crate::fault::{Aftermath, Family, Harm, Kills, Kind, Needs, Target};
use crate::profile::Profile;
use crate::seed::{Seed, Stream};
use crate::system::System;

pub(super) const KIND: Kind = Kind {
    name: "worker.kill",
    family: Family::Worker,
    about: "SIGKILL of a worker with open requests, and its restart",
    needs: Needs::NOTHING,
    harm: Harm {
        kills: Kills::WorkerOnce,
        stops_workers: false,
        expires_leases: false,
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

/// Requests that a trigger asks for beyond one a worker, at most: with several workers the open ones
/// may all belong to another.
const OPEN_REQUESTS_MORE: u32 = 3;
/// Of four kills, this many come at what a receiver has just seen.
const AT_A_SIGHT_OF_4: u32 = 1;
/// The latest attempt whose request is waited for.
const ATTEMPT_MAX: u32 = 2;
/// Longest time that a killed worker stays away, in milliseconds.
const RESTART_AFTER_MS_MAX: u64 = 1_200;

/// SIGKILL of one worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KillWorker {
    /// Which worker, from 0.
    pub worker: u32,
    /// How long it stays away, in milliseconds.
    pub restart_after_ms: u64,
}

pub(super) fn draw(seed: Seed, profile: &Profile) -> Vec<PlannedFault> {
    // A stream of their own: where there are links, the other draws stay what they are.
    let has_links = profile
        .faults
        .keys()
        .any(|name| super::kind(name).is_some_and(|kind| kind.family == Family::Network));
    let mut links = has_links.then(|| seed.stream("nemesis/worker.kill/links"));
    spread(seed, profile, &KIND, |draws| {
        let on = sight(draws, profile.workers);
        let worker = draws.random_range(0..profile.workers);
        let on = match links.as_mut() {
            Some(links) => sight_on_a_link(links, worker).unwrap_or(on),
            None => on,
        };
        let kill = KillWorker {
            worker,
            restart_after_ms: draws.random_range(0..=RESTART_AFTER_MS_MAX),
        };
        (on, Fault::KillWorker(kill))
    })
}

fn sight(draws: &mut Stream, workers: u32) -> Sight {
    if draws.random_range(0..4) >= AT_A_SIGHT_OF_4 {
        return Sight::OpenRequests(draws.random_range(workers..=workers + OPEN_REQUESTS_MORE));
    }
    let attempt = draws.random_range(1..=ATTEMPT_MAX);
    if draws.random_range(0..2) == 0 {
        Sight::RequestReceived(attempt)
    } else {
        Sight::AnswerSent(attempt)
    }
}

/// At times a kill comes at what has just passed between the worker and its database.
fn sight_on_a_link(draws: &mut Stream, worker: u32) -> Option<Sight> {
    match draws.random_range(0..4) {
        0 => Some(Sight::ClaimCommitted(worker)),
        1 => Some(Sight::SettleSent(worker)),
        _ => None,
    }
}

/// What was seen just before, where that is no request at a receiver.
fn observed(on: Sight) -> Option<String> {
    let what = match on {
        Sight::ClaimCommitted(_) => "its claim was committed",
        Sight::SettleSent(_) => "it had sent a settle",
        _ => return None,
    };
    Some(format!("killed just after {what}"))
}

impl KillWorker {
    pub(super) async fn apply<S: System>(
        &self,
        world: &mut World<'_, S>,
        fault: u64,
        on: Sight,
    ) -> Applied {
        let name = world.worker(self.worker).name.clone();
        let begun = world.begin(fault, &KIND, Target::Workers(vec![self.worker]));
        world.kill(&name).await?;
        let effective_us = world.recorder.now_us();
        let hit = world.went_away(&begun).await;
        world.effect(&begun, effective_us, hit, observed(on));
        sleep(Duration::from_millis(self.restart_after_ms)).await;
        self.heal(world).await?;
        world.end(&begun);
        Ok(())
    }

    pub(super) async fn heal<S: System>(&self, world: &mut World<'_, S>) -> Applied {
        let spec = world.worker(self.worker).clone();
        world.bring_up(&spec).await
    }
}
