//! One simulated run: storm, heal, drain, final reads; and the history that comes of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dispatcher::metrics::Metrics;
use dispatcher::store::EventView;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::fault::{Point, When};
use super::mutant::Mutant;
use super::schedule::SimSchedule;
use super::world::World;
use super::{client, host};
use crate::checker::{Finding, check_simulation};
use crate::history::op::{AttemptSeen, Op, Phase, PhaseBegin, RunStart, Section, State};
use crate::history::{History, sha256_hex};

/// Wait between two looks for the end of the drain.
const LOOK: Duration = Duration::from_millis(50);
/// The rows are counted this often, in virtual time.
const CENSUS: Duration = Duration::from_millis(1_000);

/// One pass of a point by a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passed {
    /// The point.
    pub point: Point,
    /// Which pass of it, from 1, over all workers.
    pub nth: u32,
    /// True when a fault struck then.
    pub struck: bool,
}

/// What makes runs: keeps what is worth keeping from one to the next.
pub struct Simulator {
    metrics: Arc<Metrics>,
}

/// What a run left behind.
#[derive(Clone, Debug)]
pub struct Ran {
    /// Everything that was observed, in order; times are microseconds of virtual time.
    pub ops: Vec<(u64, Op)>,
}

impl Default for Simulator {
    fn default() -> Simulator {
        Simulator::new()
    }
}

impl Simulator {
    /// A simulator with nothing under way.
    #[must_use]
    pub fn new() -> Simulator {
        Simulator {
            metrics: Arc::default(),
        }
    }

    /// Runs the schedule to its end. Must not be called inside of another runtime.
    pub fn run(&self, plan: &Arc<SimSchedule>, mutant: Option<&'static dyn Mutant>) -> Ran {
        paused_runtime().block_on(async {
            let world = World::new(plan, mutant, &self.metrics);
            flow(&world).await;
            let ops = world.take_ops();
            Ran { ops }
        })
    }

    /// The same, with every pass of a point in the storm. Must not be called inside of another runtime.
    pub fn trace(&self, plan: &Arc<SimSchedule>) -> (Ran, Vec<Passed>) {
        paused_runtime().block_on(async {
            let world = World::new(plan, None, &self.metrics);
            world.core().trace = Some(Vec::new());
            flow(&world).await;
            let ops = world.take_ops();
            let trace = world.core().trace.take();
            (Ran { ops }, trace.unwrap_or_default())
        })
    }
}

/// One thread whose time stands still until everybody waits.
fn paused_runtime() -> Runtime {
    Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without IO needs nothing of the machine")
}

async fn flow(world: &Arc<World>) {
    let plan = Arc::clone(&world.plan);
    world.record(start(&plan));
    world.record(phase(Phase::Storm, None));
    for index in 0..plan.workers as usize {
        tokio::spawn(host::live(Arc::clone(world), index));
    }
    let mut clients = JoinSet::new();
    for index in 0..plan.events.len() {
        clients.spawn(client::post(Arc::clone(world), index));
    }
    for (index, planned) in plan.faults.iter().enumerate() {
        if let When::At { ms, worker } = planned.on {
            let worker = (worker % plan.workers) as usize;
            tokio::spawn(Arc::clone(world).strike_at(index, ms, worker));
        }
    }
    tokio::spawn(count(Arc::clone(world)));
    sleep(Duration::from_millis(plan.storm_ms)).await;
    world.record(phase(Phase::Heal, None));
    world.tell_skipped();
    world.heal.cancel();
    drain(world, &plan, clients).await;
    world.record(phase(Phase::FinalReads, None));
    final_reads(world);
    world.record(phase(Phase::End, None));
}

async fn drain(world: &Arc<World>, plan: &SimSchedule, clients: JoinSet<()>) {
    let bound = Duration::from_millis(plan.drain_ms());
    let bound_us = u64::try_from(bound.as_micros()).unwrap_or(u64::MAX);
    world.record(phase(Phase::Drain, Some(bound_us)));
    let settled = async {
        // A post that is under way may still become an event.
        clients.join_all().await;
        while !world.core().model.is_settled() {
            sleep(LOOK).await;
        }
    };
    // What is left then is the liveness checker's to judge.
    let _ = timeout(bound, settled).await;
}

async fn count(world: Arc<World>) {
    loop {
        sleep(CENSUS).await;
        let census = world.core().model.census();
        world.record(Op::Census(census));
    }
}

fn start(plan: &SimSchedule) -> Op {
    Op::RunStart(RunStart {
        seed: plan.seed,
        profile: "sim".into(),
        schedule_sha256: sha256_hex(plan.to_text().as_bytes()),
        sections: BTreeMap::from([(Section::Main, plan.settings.clone())]),
        kills_required: 0,
        faults_planned: BTreeMap::new(),
        deaths: BTreeMap::new(),
        failures_planned: false,
        hangs_planned: false,
    })
}

fn phase(phase: Phase, bound_us: Option<u64>) -> Op {
    Op::Phase(PhaseBegin { phase, bound_us })
}

/// What the API would say of every acknowledged event.
fn final_reads(world: &World) {
    let t = world.now_us();
    let mut core = world.core();
    let census = core.model.census();
    core.push(t, Op::Census(census));
    for (ordinal, id) in core.acknowledged() {
        let found = uuid::Uuid::parse_str(&id)
            .ok()
            .and_then(|id| core.model.find(dispatcher::event::EventId(id)));
        core.push(t, Op::State(seen(ordinal, id, found)));
    }
}

fn seen(ordinal: u64, id: String, found: Option<EventView>) -> State {
    let Some(view) = found else {
        return State {
            http: 404,
            ..State::unread(ordinal, &id)
        };
    };
    let attempts = view.attempts.into_iter().map(|attempt| AttemptSeen {
        number: attempt.number.unsigned_abs(),
        outcome: attempt.outcome,
        status_code: attempt.status_code.map(i16::unsigned_abs),
    });
    State {
        ordinal,
        id,
        http: 200,
        status: Some(view.status),
        reason: view.reason,
        attempt_count: Some(view.attempt_count.unsigned_abs()),
        attempts: attempts.collect(),
    }
}

impl Ran {
    /// The history with its chain of hashes.
    #[must_use]
    pub fn history(&self) -> History {
        History::of_simulation(self.ops.iter().cloned())
    }

    /// What every checker of the simulation says, in the order of the report.
    #[must_use]
    pub fn findings(self) -> Vec<Finding> {
        check_simulation(&History::unchained(self.ops))
    }

    /// The first invariant that is broken.
    #[must_use]
    pub fn broken(self) -> Option<Finding> {
        self.findings()
            .into_iter()
            .find(|finding| finding.verdict.is_invalid())
    }
}
