//! SIGKILL of one worker at a trigger condition, and its restart.
//!
//! Endangers: acknowledged events, attempt numbers, duplicates, liveness. The effect is the open
//! requests that ended because their sender exited, or the statement that had just passed.

use std::time::Duration;

use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::strike::{Draw, Observed, Start, Strike};
use super::world::World;
use crate::fault::{Aftermath, Family, Harm, Kills, Kind, Needs, Target, kind_named};
use crate::plan::{Condition, PlannedFault};
use crate::seed::Stream;
use crate::system::{System, SystemError};

/// Open requests that a trigger may require beyond one per worker. With several workers, all open
/// requests may belong to another worker.
const OPEN_REQUESTS_MORE: u32 = 3;
/// Of four kills, this number starts at a request or response that a receiver has seen.
const AT_A_RECEIVER_OF_4: u32 = 1;
/// The last attempt whose request is awaited.
const ATTEMPT_MAX: u32 = 2;
/// Longest time until the restart, in milliseconds.
const RESTART_AFTER_MS_MAX: u64 = 1_200;

/// SIGKILL of one worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KillWorker {
    /// The worker, from 0.
    pub worker: u32,
    /// Time until the restart, in milliseconds.
    pub restart_after_ms: u64,
}

impl Strike for KillWorker {
    const KIND: Kind = Kind {
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
            denies_database: false,
            abandons_max: 1,
            aftermath: Aftermath::Leases { attempts: 1 },
        },
    };

    fn draw(draw: &Draw<'_>) -> Vec<PlannedFault<Self>> {
        // A separate stream: the other draws are the same with and without links.
        let mut names = draw.profile.faults.keys();
        let has_links = names.any(|name| {
            let kind = kind_named(draw.kinds, name);
            kind.is_some_and(|kind| kind.family == Family::Network)
        });
        let mut links = has_links.then(|| draw.seed.stream("nemesis/worker.kill/links"));
        let mut killed = None;
        draw.spread(|draws| {
            let on = at_a_receiver(draws, draw.profile.workers);
            let worker = another(draws, killed, draw.profile.workers);
            killed = Some(worker);
            let on = match links.as_mut() {
                Some(links) => on_a_link(links, worker).unwrap_or(on),
                None => on,
            };
            let kill =
                Self { worker, restart_after_ms: draws.random_range(0..=RESTART_AFTER_MS_MAX) };
            (on, kill)
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
        let name = world.worker(self.worker).name.clone();
        world.kill(&name).await?;
        let effective_us = world.recorder.now_us();
        Ok(Observed {
            hit: world.went_away(start).await,
            hold: Duration::from_millis(self.restart_after_ms),
            ..Observed::seen(effective_us, passed(start.on))
        })
    }

    async fn heal<S: System>(&self, world: &mut World<'_, S>) -> Result<(), SystemError> {
        let spec = world.worker(self.worker).clone();
        world.bring_up(&spec).await
    }
}

/// Draws a worker other than the one that was killed last, if there is another.
///
/// While a killed worker is away, the others take the due events. Soon after its restart it has no
/// open request that a second kill could hit.
fn another(draws: &mut Stream, killed: Option<u32>, workers: u32) -> u32 {
    match killed {
        Some(killed) if workers > 1 => (killed + draws.random_range(1..workers)) % workers,
        _ => draws.random_range(0..workers),
    }
}

fn at_a_receiver(draws: &mut Stream, workers: u32) -> Condition {
    if draws.random_range(0..4) >= AT_A_RECEIVER_OF_4 {
        return Condition::OpenRequests(draws.random_range(workers..=workers + OPEN_REQUESTS_MORE));
    }
    let attempt = draws.random_range(1..=ATTEMPT_MAX);
    if draws.random_range(0..2) == 0 {
        Condition::RequestReceived(attempt)
    } else {
        Condition::AnswerSent(attempt)
    }
}

/// Half of the kills start at a statement that passes between the worker and its database.
fn on_a_link(draws: &mut Stream, worker: u32) -> Option<Condition> {
    match draws.random_range(0..4) {
        0 => Some(Condition::ClaimCommitted(worker)),
        1 => Some(Condition::SettleSent(worker)),
        _ => None,
    }
}

/// The statement that passed just before the kill.
fn passed(on: Condition) -> Option<String> {
    let what = match on {
        Condition::ClaimCommitted(_) => "its claim was committed",
        Condition::SettleSent(_) => "it had sent a settle",
        _ => return None,
    };
    Some(format!("killed just after {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Planned as _;
    use crate::nemesis::Schedule;
    use crate::profile::Profile;
    use crate::seed::Seed;

    /// The workers of the kills in the order of their planned times.
    fn killed(seed: u64, profile: &Profile) -> Vec<Target> {
        let schedule = Schedule::generate(Seed::new(seed), profile);
        let faults = schedule.faults.iter().map(|planned| &planned.fault);
        let kills = faults.filter(|fault| fault.kind().is_kill());
        kills.map(|fault| fault.target()).collect()
    }

    #[test]
    fn no_worker_is_killed_twice_in_a_row() {
        let profile = Profile::chaotic();
        for seed in 0..20 {
            let killed = killed(seed, &profile);
            assert_eq!(killed.len(), profile.kills as usize, "seed {seed}");
            let twice = killed.windows(2).any(|pair| pair[0] == pair[1]);
            assert!(!twice, "seed {seed}: {killed:?}");
        }
    }

    #[test]
    fn only_worker_is_killed_each_time() {
        let profile = Profile { workers: 1, ..Profile::chaotic() };
        let killed = killed(1, &profile);
        assert_eq!(killed, vec![Target::Worker(0); profile.kills as usize]);
    }
}
