//! The context that all tasks of one simulated run share.
//!
//! All tasks run on one thread of a paused runtime. So the lock of the state is never contended,
//! and no task holds it across an await.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dispatcher::metrics::Metrics;
use dispatcher::signature::Signer;
use mock_receiver::Secrets;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::mutant::Mutant;
use super::schedule::SimSchedule;
use super::state::SimState;
use crate::history::op::Op;

/// The signing secret of every simulated run, in the format of the setting.
pub(super) const SECRET: &str = "whsec_c2ltdWxhdGVkLXJ1bnMtc2lnbi13aXRoLXRoaXMh";

/// Maximum number of ops of a run. A worker that claims and releases an event again and again, with
/// no pause in virtual time, would otherwise use up the memory. A healthy run has some thousands.
pub(super) const OPS_MAX: usize = 500_000;

/// The constants of a run, and its state behind one lock.
pub(super) struct SimContext {
    pub(super) schedule: Arc<SimSchedule>,
    pub(super) started_at: Instant,
    pub(super) signer: Signer,
    pub(super) secrets: Secrets,
    pub(super) metrics: Arc<Metrics>,
    pub(super) mutant: Option<&'static dyn Mutant>,
    /// Cancelled at the end of the storm. Every active fault then heals.
    pub(super) heal: CancellationToken,
    /// Cancelled when the history has [`OPS_MAX`] ops.
    pub(super) full: CancellationToken,
    state: Mutex<SimState>,
}

impl SimContext {
    pub(super) fn new(
        schedule: &Arc<SimSchedule>,
        mutant: Option<&'static dyn Mutant>,
        metrics: &Arc<Metrics>,
    ) -> Arc<Self> {
        Arc::new(Self {
            schedule: Arc::clone(schedule),
            started_at: Instant::now(),
            signer: Signer::parse(SECRET).expect("the secret is well formed"),
            secrets: Secrets::parse(SECRET).expect("the secret is well formed"),
            metrics: Arc::clone(metrics),
            mutant,
            heal: CancellationToken::new(),
            full: CancellationToken::new(),
            state: Mutex::new(SimState::new(schedule)),
        })
    }

    pub(super) fn state(&self) -> MutexGuard<'_, SimState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the virtual time since the start of the run, in microseconds.
    pub(super) fn now_us(&self) -> u64 {
        u64::try_from(self.started_at.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Appends an observation to the history.
    pub(super) fn record(&self, op: Op) {
        let t = self.now_us();
        let mut state = self.state();
        state.push(t, op);
        self.limit(&state);
    }

    /// Runs one transaction of the store. Its transitions are in the history before another task
    /// can read the changed rows.
    pub(super) fn commit<T>(&self, transaction: impl FnOnce(&mut SimState, i64) -> T) -> T {
        let t = self.now_us();
        let mut state = self.state();
        let now_us = state.clock.now_us(t);
        let result = transaction(&mut state, now_us);
        for op in state.model.take_transitions(now_us) {
            state.push(t, op);
        }
        self.limit(&state);
        result
    }

    fn limit(&self, state: &SimState) {
        if state.ops.len() >= OPS_MAX {
            self.full.cancel();
        }
    }
}
