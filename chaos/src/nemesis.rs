//! The nemesis: what is done to the system, and the register of its faults.
//!
//! Each fault is one file with `draw` (plain data out of the seed), `apply` and `heal`. A fault whose
//! effect was not observed does not count as coverage. Only the runner decides when the storm ends.

pub mod kill_worker;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::history::op::{FaultSkip, Op};
use crate::profile::Profile;
use crate::recorder::Recorder;
use crate::seed::Seed;
use crate::system::{System, SystemError, WorkerSpec};
use crate::workload::Apis;
use kill_worker::KillWorker;

/// One fault of the plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedFault {
    /// When it may begin.
    pub trigger: Trigger,
    /// What is done.
    pub fault: Fault,
}

/// When a fault begins: not before a time, and then as soon as enough requests are open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trigger {
    /// Milliseconds after the storm began.
    pub at_ms: u64,
    /// Requests that must be open at the receivers.
    pub open_requests: u32,
    /// How long that is waited for, in milliseconds; then the fault is skipped.
    pub within_ms: u64,
}

/// Every kind of fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "f")]
pub enum Fault {
    /// SIGKILL of a worker, and its restart.
    #[serde(rename = "worker.kill")]
    KillWorker(KillWorker),
}

/// Every kind of fault by name, with what it does.
pub const FAULTS: &[(&str, &str)] = &[(kill_worker::NAME, kill_worker::WHAT)];

impl PlannedFault {
    /// Draws every fault of a run, in order of time.
    #[must_use]
    pub fn draw_all(seed: Seed, profile: &Profile) -> Vec<PlannedFault> {
        let mut faults = kill_worker::draw(seed, profile);
        faults.sort_by_key(|fault| fault.trigger.at_ms);
        faults
    }
}

/// What faults are applied to.
#[derive(Debug)]
pub struct World<'a, S> {
    /// The workers' driver.
    pub system: &'a mut S,
    /// The workers of the main section.
    pub workers: &'a [WorkerSpec],
    /// Their APIs.
    pub apis: &'a Apis,
    /// The history.
    pub recorder: &'a Recorder,
    /// Deadline of an attempt, in milliseconds.
    pub http_timeout_ms: u64,
}

impl Fault {
    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Fault::KillWorker(_) => kill_worker::NAME,
        }
    }

    async fn apply<S: System>(&self, world: &mut World<'_, S>, fault: u64) -> Applied {
        match self {
            Fault::KillWorker(kill) => kill.apply(world, fault).await,
        }
    }

    /// Undoes the fault. Harmless when there is nothing to undo.
    ///
    /// # Errors
    /// When the system does not come back.
    pub async fn heal<S: System>(&self, world: &mut World<'_, S>) -> Applied {
        match self {
            Fault::KillWorker(kill) => kill.heal(world).await,
        }
    }
}

type Applied = Result<(), SystemError>;

/// Applies every fault of the plan in turn, each when its trigger says.
///
/// # Errors
/// When the system cannot be killed or does not come back: the harness can say nothing then.
pub async fn run<S: System>(
    faults: &[PlannedFault],
    world: &mut World<'_, S>,
    begin: Instant,
) -> Applied {
    for (planned, fault) in faults.iter().zip(1_u64..) {
        sleep_until(begin + Duration::from_millis(planned.trigger.at_ms)).await;
        let name = planned.fault.name();
        if !planned.trigger.wait(world.recorder).await {
            let why = format!("{} requests were never open", planned.trigger.open_requests);
            world.recorder.record(Op::FaultSkip(FaultSkip {
                f: name.into(),
                why,
            }));
            continue;
        }
        planned.fault.apply(world, fault).await?;
    }
    Ok(())
}

/// Heals every fault of the plan.
///
/// # Errors
/// When the system does not come back.
pub async fn heal_all<S: System>(faults: &[PlannedFault], world: &mut World<'_, S>) -> Applied {
    for planned in faults {
        planned.fault.heal(world).await?;
    }
    Ok(())
}

impl Trigger {
    async fn wait(&self, recorder: &Recorder) -> bool {
        let until = Instant::now() + Duration::from_millis(self.within_ms);
        let mut changed = recorder.changed();
        while recorder.open_requests().len() < self.open_requests as usize {
            if timeout_at(until, changed.changed()).await.is_err() {
                return false;
            }
        }
        true
    }
}
