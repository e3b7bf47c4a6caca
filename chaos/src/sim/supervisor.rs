//! Runs one simulated process over all its lives: starts the real worker and restarts it.

use std::sync::Arc;
use std::time::Duration;

use dispatcher::accept;
use dispatcher::backoff::Policy;
use dispatcher::config::WorkerConfig;
use dispatcher::event::WorkerId;
use dispatcher::hand_off::HandOff;
use dispatcher::worker::{Parts, Worker};
use tokio::sync::Notify;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::context::SimContext;
use super::process::RequestedEnd;
use super::running_worker::{ProcessEnd, RunningWorker};
use super::schedule::SimSchedule;
use super::store::SimStore;
use super::wire::SimTransport;
use crate::history::op::{FaultEnd, Op, Section, WorkerSeen};

/// Interval at which a starting process tries to connect to the database.
const CONNECT_INTERVAL: Duration = Duration::from_millis(250);
/// Number of connections of the API.
const API_CONNECTIONS: u32 = 4;
/// Upper limit of a requested delay (`Retry-After`). Scripts request less.
const RETRY_AFTER_CAP: Duration = Duration::from_secs(10);

/// Runs the process `index` until the run ends.
pub(super) async fn supervise(context: Arc<SimContext>, index: usize) {
    loop {
        while !is_database_reachable(&context, index) {
            sleep(CONNECT_INTERVAL).await;
        }
        let worker = start(&context, index);
        let end = RunningWorker::new(&context, index, worker).await;
        let ends = finish(&context, index, end);
        let down_ms = ends.iter().map(|end| end.down_ms).max().unwrap_or(0);
        tokio::select! {
            biased;
            () = context.heal.cancelled() => {}
            () = sleep(Duration::from_millis(down_ms)) => {}
        }
        for RequestedEnd { fault, .. } in ends {
            context.record(Op::FaultEnd(FaultEnd { fault }));
        }
    }
}

fn is_database_reachable(context: &SimContext, index: usize) -> bool {
    let state = context.state();
    state.database_outages == 0 && state.processes[index].store_cuts == 0
}

/// Begins a life with a new worker id and its presence, and returns the real worker.
fn start(context: &Arc<SimContext>, index: usize) -> impl Future<Output = ()> + use<> {
    let t = context.now_us();
    let seed = context.schedule.seed;
    let mut state = context.state();
    let process = &mut state.processes[index];
    process.life += 1;
    let life = process.life;
    process.worker_id =
        WorkerId(i64::from(life) << 8 | i64::try_from(index).unwrap_or(0) | 1 << 40);
    process.is_up = true;
    process.is_killed = false;
    process.pauses = 0;
    process.stop = CancellationToken::new();
    let stop = process.stop.clone();
    let worker_id = process.worker_id;
    let seen = WorkerSeen {
        worker: process.target().to_string(),
        section: Section::Main,
        ready: true,
        pid: None,
    };
    state.push(t, Op::Worker(seen));
    state.take_presence(index);
    let store = SimStore { context: Arc::clone(context), process: index, life };
    let wake = Arc::new(Notify::new());
    let (hand_off, handed_over) = HandOff::new();
    let (acceptor, accepting) = accept::acceptor(accept::Parts {
        store: store.clone(),
        connections: API_CONNECTIONS,
        hand_off: Arc::clone(&hand_off),
        stored: Arc::clone(&wake),
        metrics: Arc::clone(&context.metrics),
        rng: seed.stream(&format!("sim/accept/{index}/{life}")),
    });
    state.processes[index].acceptor = Some(acceptor);
    state.processes[index].hand_off = Some(Arc::clone(&hand_off));
    drop(state);
    let transport = SimTransport { context: Arc::clone(context), process: index, life };
    let parts = Parts {
        presence: store.clone(),
        store,
        transport,
        signer: context.signer.clone(),
        rng: seed.stream(&format!("sim/worker/{index}/{life}")),
        id: worker_id,
        wake,
        hand_off,
        handed_over,
        metrics: Arc::clone(&context.metrics),
        health: Arc::default(),
    };
    let mut config = config(&context.schedule);
    if let Some(mutant) = context.mutant {
        mutant.config(&mut config);
    }
    let run = Worker::new(config, parts).run(stop);
    async move {
        tokio::select! {
            biased;
            _ = run => {}
            () = accepting => unreachable!("the process holds an acceptor"),
        }
    }
}

/// Ends a life. Returns the faults that end with the next start.
fn finish(context: &SimContext, index: usize, end: ProcessEnd) -> Vec<RequestedEnd> {
    let mut state = context.state();
    state.lose_presence(index);
    let process = &mut state.processes[index];
    process.is_up = false;
    let ends = std::mem::take(&mut process.requested_ends);
    let worker_id = process.worker_id;
    if end == ProcessEnd::Stopped {
        // A graceful stop deletes the row of the worker.
        state.model.forget(worker_id);
    }
    ends
}

/// Converts the settings of the schedule to the configuration of the worker.
fn config(schedule: &SimSchedule) -> WorkerConfig {
    let s = &schedule.settings;
    let ms = Duration::from_millis;
    WorkerConfig {
        policy: Policy {
            base: ms(s.backoff_base_ms),
            cap: ms(s.backoff_cap_ms),
            retry_after_cap: RETRY_AFTER_CAP,
            max_attempts: s.max_attempts,
            max_abandoned: s.max_abandoned,
        },
        poll_interval: ms(s.poll_ms),
        lease: ms(s.lease_ms),
        http_timeout: ms(s.http_timeout_ms),
        in_flight_max: s.max_in_flight as usize,
        in_flight_per_host_max: schedule.per_host.min(s.max_in_flight) as usize,
        shutdown: ms(s.shutdown_ms()),
        presence: true,
    }
}
