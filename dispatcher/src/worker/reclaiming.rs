//! Reclaiming: finds absent workers, ends their leases and expired ones, and renews the presence of
//! this worker if it is lost.

pub(super) mod sweeper;

use rand::Rng;
use tokio::time::Instant;

use self::sweeper::Swept;
use super::completion::{Completion, ReclaimEnd, Work};
use super::state::Worker;
use crate::backoff::jitter_factor;
use crate::event::WorkerId;
use crate::store::{
    DueRange, Presence, RECLAIM_BATCH_MAX, Reclaim, ReclaimCause, Reclaimed, Store, StoreError,
};
use crate::transport::Transport;

impl<S: Store, P: Presence, T: Transport, R: Rng + Send> Worker<S, P, T, R> {
    /// Starts each call of the sweep that is due.
    pub(super) fn start_reclaiming(&mut self, now: Instant) {
        if self.sweeper.start_check(now) {
            let (store, caller) = (self.parts.store.clone(), self.parts.id);
            self.work.push(absent_workers(store, caller));
        }
        let is_steady = self.database.is_steady(now);
        if let Some((cause, range)) = self.sweeper.next_reclaim(now, is_steady) {
            let reclaim = self.reclaim_input(cause, range);
            self.work.push(reclaim_leases(self.parts.store.clone(), reclaim));
        }
        if let Some(worker) = self.sweeper.next_to_forget() {
            self.work.push(forget(self.parts.store.clone(), worker));
        }
    }

    pub(super) fn on_reclaimed(&mut self, end: ReclaimEnd) {
        match end {
            ReclaimEnd::Absent(result) => {
                let absent = self.observe(result);
                self.sweeper.checked(absent, Instant::now());
                if self.sweeper.must_renew_presence() {
                    self.parts.presence.renew();
                }
            }
            ReclaimEnd::Reclaimed { cause, took, result } => {
                let swept = Swept::of(&result);
                self.sweeper.reclaimed(cause, swept, took, Instant::now());
                self.on_leases_ended(cause, result);
            }
            ReclaimEnd::Forgotten { worker, result } => {
                self.sweeper.forgotten(worker, result.is_ok());
                self.observe(result);
            }
        }
    }

    fn on_leases_ended(&mut self, cause: ReclaimCause, result: Result<Vec<Reclaimed>, StoreError>) {
        for lease in self.observe(result).into_iter().flatten() {
            log_reclaimed(&lease, cause);
            self.parts.metrics.reclaimed(cause, &lease);
            self.scheduler.request();
        }
    }

    fn reclaim_input(&mut self, cause: ReclaimCause, range: DueRange) -> Reclaim {
        let rng = &mut self.parts.rng;
        Reclaim {
            cause,
            delays: self.config.policy.abandoned_floors(),
            factors: (0..RECLAIM_BATCH_MAX).map(|_| jitter_factor(rng)).collect(),
            range,
        }
    }
}

fn absent_workers(store: impl Store, caller: WorkerId) -> Work {
    Box::pin(async move {
        Completion::Reclaiming(ReclaimEnd::Absent(store.absent_workers(caller).await))
    })
}

fn reclaim_leases(store: impl Store, reclaim: Reclaim) -> Work {
    let (cause, started) = (reclaim.cause, Instant::now());
    Box::pin(async move {
        let result = store.reclaim(reclaim).await;
        Completion::Reclaiming(ReclaimEnd::Reclaimed { cause, took: started.elapsed(), result })
    })
}

fn forget(store: impl Store, worker: WorkerId) -> Work {
    Box::pin(async move {
        let result = store.forget(worker).await;
        Completion::Reclaiming(ReclaimEnd::Forgotten { worker, result })
    })
}

fn log_reclaimed(lease: &Reclaimed, cause: ReclaimCause) {
    let (id, attempt) = (lease.key.id, lease.key.number);
    let cause = match cause {
        ReclaimCause::Expired => "lease expired",
        ReclaimCause::Gone(_) => "presence lock of the worker absent",
    };
    let abandon_count = lease.abandon_count;
    if !lease.is_recorded {
        tracing::error!(event.id = %id, attempt,
            "reclaimed without an attempt row, the attempt number exists already");
    }
    if lease.is_dead {
        tracing::warn!(event.id = %id, attempt, outcome = "abandoned", cause, abandon_count, "dead");
    } else {
        tracing::info!(event.id = %id, attempt, outcome = "abandoned", cause, abandon_count,
            worker.id = %lease.worker, "reclaimed, will be retried");
    }
}
