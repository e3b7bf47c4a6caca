//! One process over all its lives: start, run the real worker, end, start again.

use std::sync::Arc;
use std::time::Duration;

use dispatcher::backoff::Policy;
use dispatcher::config::WorkerConfig;
use dispatcher::event::WorkerId;
use dispatcher::worker::{Parts, Worker};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::schedule::SimSchedule;
use super::store::SimStore;
use super::wire::SimTransport;
use super::world::{Fate, Process, World};
use crate::history::op::{FaultEnd, Op, Section, WorkerSeen};

/// How often a process that starts looks for its database.
const START_PAUSE: Duration = Duration::from_millis(250);
/// The longest `Retry-After` that is followed; scripts ask for less.
const RETRY_AFTER_CAP: Duration = Duration::from_secs(10);

/// Runs the process `index` until the run ends.
pub(super) async fn live(world: Arc<World>, index: usize) {
    loop {
        while !has_database(&world, index) {
            sleep(START_PAUSE).await;
        }
        let worker = start(&world, index);
        let fate = Process::new(&world, index, worker).await;
        let (faults, down_ms) = end(&world, index, fate);
        tokio::select! {
            biased;
            () = world.heal.cancelled() => {}
            () = sleep(Duration::from_millis(down_ms)) => {}
        }
        for fault in faults {
            world.record(Op::FaultEnd(FaultEnd { fault }));
        }
    }
}

fn has_database(world: &World, index: usize) -> bool {
    let core = world.core();
    core.database_down == 0 && core.hosts[index].store_cut == 0
}

/// Begins a life: a holder of its own, its presence, and the real worker.
fn start(world: &Arc<World>, index: usize) -> impl Future<Output = ()> + use<> {
    let t = world.now_us();
    let seed = world.plan.seed;
    let mut core = world.core();
    let host = &mut core.hosts[index];
    host.life += 1;
    let life = host.life;
    host.holder = WorkerId(i64::from(life) << 8 | i64::try_from(index).unwrap_or(0) | 1 << 40);
    host.up = true;
    host.killed = false;
    host.paused = 0;
    host.stop = CancellationToken::new();
    host.accepted = Arc::default();
    let (stop, wake, holder) = (host.stop.clone(), Arc::clone(&host.accepted), host.holder);
    let seen = WorkerSeen {
        worker: host.target().to_string(),
        section: Section::Main,
        ready: true,
    };
    core.push(t, Op::Worker(seen));
    core.take_presence(index);
    drop(core);
    let store = SimStore {
        world: Arc::clone(world),
        host: index,
        life,
    };
    let transport = SimTransport {
        world: Arc::clone(world),
        host: index,
        life,
    };
    let parts = Parts {
        presence: store.clone(),
        store,
        transport,
        signer: world.signer.clone(),
        rng: seed.stream(&format!("sim/worker/{index}/{life}")),
        id: holder,
        wake,
        metrics: Arc::clone(&world.metrics),
    };
    let mut config = config(&world.plan);
    if let Some(mutant) = world.mutant {
        mutant.config(&mut config);
    }
    let run = Worker::new(config, parts).run(stop);
    async move {
        let _drained = run.await;
    }
}

/// Ends a life; gives the faults that end with the restart, and how long until then.
fn end(world: &World, index: usize, fate: Fate) -> (Vec<u64>, u64) {
    let mut core = world.core();
    core.lose_presence(index);
    let host = &mut core.hosts[index];
    host.up = false;
    let ends = std::mem::take(&mut host.ends);
    let holder = host.holder;
    if fate == Fate::Stopped {
        // It takes its row away as it leaves.
        core.model.forget(holder);
    }
    let down_ms = ends.iter().map(|(_, down_ms)| *down_ms).max().unwrap_or(0);
    (ends.into_iter().map(|(fault, _)| fault).collect(), down_ms)
}

/// What the schedule's settings mean to the worker.
fn config(plan: &SimSchedule) -> WorkerConfig {
    let s = &plan.settings;
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
        in_flight_per_host_max: plan.per_host.min(s.max_in_flight) as usize,
        shutdown: ms(s.shutdown_ms()),
        presence: true,
    }
}
