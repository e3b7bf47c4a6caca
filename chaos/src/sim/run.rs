//! One simulated run: storm, heal, drain and final reads, recorded as a history.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dispatcher::event::EventId;
use dispatcher::metrics::Metrics;
use dispatcher::store::EventView;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::client;
use super::context::{OPS_MAX, SimContext};
use super::failpoint::FailpointHit;
use super::fault::When;
use super::mutant::Mutant;
use super::schedule::SimSchedule;
use super::state::AcknowledgedEvent;
use super::supervisor;
use crate::checker::{self, Finding, Tier};
use crate::history::op::{
    AttemptSeen, BoundReached, Op, Phase, PhaseBegin, RunStart, Section, State,
};
use crate::history::{History, sha256_hex};

/// Interval of the checks whether the drain is complete.
const DRAIN_CHECK_INTERVAL: Duration = Duration::from_millis(50);
/// Interval of the counts of rows.
const CENSUS_INTERVAL: Duration = Duration::from_millis(1_000);

/// Executes schedules. All runs of a simulator share one metrics registry.
pub struct Simulator {
    metrics: Arc<Metrics>,
}

/// The result of a run.
#[derive(Clone, Debug)]
pub struct SimResult {
    /// All observations in order, each with its microseconds of virtual time.
    pub ops: Vec<(u64, Op)>,
}

impl Default for Simulator {
    fn default() -> Self {
        Self::new()
    }
}

impl Simulator {
    /// Creates a simulator. One simulator can execute many schedules.
    #[must_use]
    pub fn new() -> Self {
        Self { metrics: Arc::default() }
    }

    /// Executes the schedule to its end. Must not be called inside another runtime.
    pub fn run(
        &self,
        schedule: &Arc<SimSchedule>,
        mutant: Option<&'static dyn Mutant>,
    ) -> SimResult {
        paused_runtime().block_on(async {
            let context = SimContext::new(schedule, mutant, &self.metrics);
            tokio::select! {
                biased;
                () = context.full.cancelled() => end_early(&context),
                () = execute(&context) => {}
            }
            let ops = context.state().take_ops();
            SimResult { ops }
        })
    }

    /// Executes the schedule and returns every failpoint hit of the storm. Must not be called
    /// inside another runtime.
    pub fn trace(&self, schedule: &Arc<SimSchedule>) -> (SimResult, Vec<FailpointHit>) {
        paused_runtime().block_on(async {
            let context = SimContext::new(schedule, None, &self.metrics);
            context.state().trace = Some(Vec::new());
            execute(&context).await;
            let ops = context.state().take_ops();
            let trace = context.state().trace.take();
            (SimResult { ops }, trace.unwrap_or_default())
        })
    }
}

/// Builds a runtime with one thread. Its time advances only when every task waits.
fn paused_runtime() -> Runtime {
    Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without IO uses no resource of the machine")
}

async fn execute(context: &Arc<SimContext>) {
    let schedule = Arc::clone(&context.schedule);
    context.record(start(&schedule));
    if schedule.quiet_ms > 0 {
        context.record(phase(Phase::Baseline, None));
        tokio::spawn(end_baseline(Arc::clone(context), schedule.quiet_ms));
    } else {
        context.record(phase(Phase::Storm, None));
    }
    for index in 0..schedule.workers as usize {
        tokio::spawn(supervisor::supervise(Arc::clone(context), index));
    }
    let mut clients = JoinSet::new();
    for index in 0..schedule.events.len() {
        clients.spawn(client::post(Arc::clone(context), index));
    }
    for (index, planned) in schedule.faults.iter().enumerate() {
        if let When::At { ms, worker } = planned.on {
            let worker = (worker % schedule.workers) as usize;
            tokio::spawn(Arc::clone(context).strike_at(index, ms, worker));
        }
    }
    tokio::spawn(record_census(Arc::clone(context)));
    sleep(Duration::from_millis(schedule.storm_ms)).await;
    context.record(phase(Phase::Heal, None));
    let t = context.now_us();
    context.state().push_skipped_faults(t);
    context.heal.cancel();
    drain(context, &schedule, clients).await;
    context.record(phase(Phase::FinalReads, None));
    final_reads(context);
    context.record(phase(Phase::End, None));
}

/// Ends a run whose history is full. `liveness` judges the events that are not final.
fn end_early(context: &SimContext) {
    let unfinished = format!("the history has {OPS_MAX} ops and the run did not end");
    let bound_us = context.now_us();
    context.record(Op::BoundReached(BoundReached { bound_us, unfinished }));
    context.record(phase(Phase::Drain, Some(0)));
    context.record(phase(Phase::FinalReads, None));
    final_reads(context);
    context.record(phase(Phase::End, None));
}

async fn end_baseline(context: Arc<SimContext>, quiet_ms: u64) {
    sleep(Duration::from_millis(quiet_ms)).await;
    context.record(phase(Phase::Storm, None));
}

async fn drain(context: &Arc<SimContext>, schedule: &SimSchedule, clients: JoinSet<()>) {
    let bound = Duration::from_millis(schedule.drain_ms());
    let bound_us = u64::try_from(bound.as_micros()).unwrap_or(u64::MAX);
    context.record(phase(Phase::Drain, Some(bound_us)));
    let settled = async {
        // An open post may still store an event.
        clients.join_all().await;
        while !context.state().model.is_settled() {
            sleep(DRAIN_CHECK_INTERVAL).await;
        }
    };
    // The liveness checker judges the events that are not final at the bound.
    let _ = timeout(bound, settled).await;
}

async fn record_census(context: Arc<SimContext>) {
    loop {
        sleep(CENSUS_INTERVAL).await;
        let census = context.state().model.census();
        context.record(Op::Census(census));
    }
}

fn start(schedule: &SimSchedule) -> Op {
    Op::RunStart(RunStart {
        seed: schedule.seed,
        profile: "sim".into(),
        schedule_sha256: sha256_hex(schedule.to_text().as_bytes()),
        sections: BTreeMap::from([(Section::Main, schedule.settings.clone())]),
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

/// Records the state of every acknowledged event, as the API would return it.
fn final_reads(context: &SimContext) {
    let t = context.now_us();
    let mut state = context.state();
    let census = state.model.census();
    state.push(t, Op::Census(census));
    for AcknowledgedEvent { ordinal, id } in state.acknowledged() {
        let event = Uuid::parse_str(&id).ok();
        let view = event.and_then(|id| state.model.find(EventId(id)));
        state.push(t, Op::State(state_op(ordinal, id, view)));
    }
}

fn state_op(ordinal: u64, id: String, view: Option<EventView>) -> State {
    let Some(view) = view else {
        return State { http: 404, ..State::unread(ordinal, &id) };
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

impl SimResult {
    /// Returns the history of the run.
    pub fn history(&self) -> History {
        History::of_simulation(self.ops.iter().cloned())
    }

    /// Runs every checker of the simulation. Returns the findings in the order of the report.
    pub fn findings(self) -> Vec<Finding> {
        checker::judge(&History::of_simulation(self.ops), Tier::Simulation)
    }

    /// Returns the first finding with the verdict *invalid*.
    pub fn broken(self) -> Option<Finding> {
        self.findings().into_iter().find(|finding| finding.verdict.is_invalid())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::op::Acknowledged;
    use crate::seed::Seed;
    use crate::sim::schedule::Size;

    // A worker that works without a pause never lets the virtual time of the storm pass.
    #[test]
    fn run_with_a_full_history_ends_and_does_not_pass() {
        let schedule = Arc::new(SimSchedule::generate(Seed::new(1), Size::default()));
        paused_runtime().block_on(async {
            let context = SimContext::new(&schedule, None, &Arc::default());
            context.record(start(&schedule));
            let id = Uuid::nil().to_string();
            context.record(Op::IngestOk(Acknowledged { op: 1, ordinal: 0, id }));
            for _ in 0..OPS_MAX {
                context.record(phase(Phase::Storm, None));
            }
            assert!(context.full.is_cancelled());
            end_early(&context);
            let ops = context.state().take_ops();
            assert!(SimResult { ops }.broken().is_some());
        });
    }
}
