//! The world of one simulated run: the model store, the workers' state, the clock, the history.
//!
//! One thread, virtual time: everything happens in tasks of one paused runtime, so the lock is never
//! contended and never held over an await. Faults strike here; what they mean for a call is told to
//! the caller as an [`Effect`].

mod clock;
mod faults;
mod hosts;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dispatcher::metrics::Metrics;
use dispatcher::signature::Signer;
use mock_receiver::Secrets;
use rand::RngExt;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::fault::Fault;
use super::model::Model;
use super::mutant::Mutant;
use super::run::Passed;
use super::schedule::SimSchedule;
use crate::history::op::{FaultSkip, Op};
use crate::seed::Stream;

pub(super) use clock::{Clock, unix_us};
pub(super) use faults::{Armed, Effect};
pub(super) use hosts::{Fate, Host, Process};

/// The secret of every simulated run, as the setting is written.
pub(super) const SECRET: &str = "whsec_c2ltdWxhdGVkLXJ1bnMtc2lnbi13aXRoLXRoaXMh";

/// What every task of a run shares.
pub(super) struct World {
    pub(super) plan: Arc<SimSchedule>,
    pub(super) zero: Instant,
    pub(super) signer: Signer,
    pub(super) secrets: Secrets,
    pub(super) metrics: Arc<Metrics>,
    pub(super) mutant: Option<&'static dyn Mutant>,
    /// Told with every transition.
    pub(super) changed: Notify,
    /// The storm is over: everything heals now.
    pub(super) heal: CancellationToken,
    core: Mutex<Core>,
}

/// What changes during a run.
pub(super) struct Core {
    pub(super) model: Model,
    pub(super) hosts: Vec<Host>,
    pub(super) clock: Clock,
    pub(super) faults: Vec<Armed>,
    /// Outages of the database that last.
    pub(super) database_down: u32,
    /// Grows with each crash of the database.
    pub(super) database_life: u64,
    /// Refusals that last, by receiver.
    pub(super) refusing: Vec<u32>,
    /// Requests open at receivers: name, worker and its life.
    pub(super) open: Vec<(String, usize, u32)>,
    pub(super) draws: Stream,
    /// Every pass of a point, where that is asked for.
    pub(super) trace: Option<Vec<Passed>>,
    ops: Vec<(u64, Op)>,
    acknowledged: BTreeMap<u64, String>,
    requests: u64,
    posts: u64,
    tokens: u128,
}

impl World {
    pub(super) fn new(
        plan: &Arc<SimSchedule>,
        mutant: Option<&'static dyn Mutant>,
        metrics: &Arc<Metrics>,
    ) -> Arc<World> {
        let hosts = (0..plan.workers).map(|number| Host::new(plan.seed, number));
        let core = Core {
            model: Model::default(),
            hosts: hosts.collect(),
            clock: Clock::default(),
            faults: faults::armed(plan),
            database_down: 0,
            database_life: 0,
            refusing: vec![0; plan.receivers as usize],
            open: Vec::new(),
            draws: plan.seed.stream("sim/world"),
            trace: None,
            ops: Vec::with_capacity(1_024),
            acknowledged: BTreeMap::new(),
            requests: 0,
            posts: 0,
            tokens: 0,
        };
        Arc::new(World {
            plan: Arc::clone(plan),
            zero: Instant::now(),
            signer: Signer::parse(SECRET).expect("the secret is well formed"),
            secrets: Secrets::parse(SECRET).expect("the secret is well formed"),
            metrics: Arc::clone(metrics),
            mutant,
            changed: Notify::new(),
            heal: CancellationToken::new(),
            core: Mutex::new(core),
        })
    }

    pub(super) fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Microseconds since the run began.
    pub(super) fn now_us(&self) -> u64 {
        u64::try_from(self.zero.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Writes one observation.
    pub(super) fn record(&self, op: Op) {
        let t = self.now_us();
        self.core().push(t, op);
    }

    /// Takes the history out.
    pub(super) fn take_ops(&self) -> Vec<(u64, Op)> {
        std::mem::take(&mut self.core().ops)
    }

    /// Runs one transaction of the store: what it changes is in the history before anybody else can
    /// look.
    pub(super) fn commit<T>(&self, transaction: impl FnOnce(&mut Core, i64) -> T) -> T {
        let t = self.now_us();
        let mut core = self.core();
        let now_us = core.clock.now_us(t);
        let done = transaction(&mut core, now_us);
        let transitions = core.model.take_transitions(now_us);
        let changed = !transitions.is_empty();
        core.ops.extend(transitions.into_iter().map(|op| (t, op)));
        drop(core);
        if changed {
            self.changed.notify_waiters();
        }
        done
    }

    /// Says which faults of the plan never struck.
    pub(super) fn tell_skipped(&self) {
        let mut core = self.core();
        let skipped: Vec<Op> = core
            .faults
            .iter()
            .filter(|armed| !armed.struck)
            .map(|armed| skip(&armed.planned.fault, "its moment never came"))
            .collect();
        let t = self.now_us();
        core.ops.extend(skipped.into_iter().map(|op| (t, op)));
    }
}

impl Core {
    pub(super) fn push(&mut self, t: u64, op: Op) {
        if let Op::IngestOk(ok) = &op {
            self.acknowledged
                .entry(ok.ordinal)
                .or_insert_with(|| ok.id.clone());
        }
        self.ops.push((t, op));
    }

    /// The acknowledged events by ordinal, each with its first id.
    pub(super) fn acknowledged(&self) -> Vec<(u64, String)> {
        let acknowledged = self.acknowledged.iter();
        acknowledged
            .map(|(ordinal, id)| (*ordinal, id.clone()))
            .collect()
    }

    /// A fresh number of a request.
    pub(super) fn request(&mut self) -> u64 {
        self.requests += 1;
        self.requests
    }

    /// A fresh number of a client op.
    pub(super) fn post(&mut self) -> u64 {
        self.posts += 1;
        self.posts
    }

    /// A fresh lease token.
    pub(super) fn token(&mut self) -> dispatcher::event::LeaseToken {
        self.tokens += 1;
        dispatcher::event::LeaseToken(uuid::Uuid::from_u128(self.tokens))
    }

    /// A draw of milliseconds.
    pub(super) fn within_ms(&mut self, most: u64) -> Duration {
        Duration::from_millis(if most == 0 {
            0
        } else {
            self.draws.random_range(0..=most)
        })
    }
}

fn skip(fault: &Fault, why: &str) -> Op {
    Op::FaultSkip(FaultSkip {
        f: fault.kind().name.into(),
        why: why.into(),
    })
}
