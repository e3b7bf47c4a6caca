//! Reclaiming: finds absent workers, ends their leases and expired ones, and renews the presence of
//! this worker if it is lost.

pub(super) mod sweeper;

use std::time::Duration;

use rand::Rng;
use tokio::time::Instant;

use super::state::Worker;
use crate::backoff::jitter_factor;
use crate::event::WorkerId;
use crate::store::{
    Presence, RECLAIM_BATCH_MAX, Reclaim, ReclaimCause, Reclaimed, Store, StoreError,
};
use crate::transport::Transport;

impl<S: Store, P: Presence, T: Transport, R: Rng + Send + 'static> Worker<S, P, T, R> {
    /// Starts each call of the sweep that is due.
    pub(super) fn start_reclaiming(&mut self, now: Instant) {
        if self.sweeper.start_check(now) {
            let (store, caller) = (self.parts.store.clone(), self.parts.id);
            self.start(async move { store.absent_workers(caller).await }, Self::on_checked);
        }
        let is_steady = self.database.is_steady(now);
        if let Some((cause, range)) = self.sweeper.next_reclaim(now, is_steady) {
            let (store, started) = (self.parts.store.clone(), Instant::now());
            let rng = &mut self.parts.rng;
            let reclaim = Reclaim {
                cause,
                delays: self.config.policy.abandoned_floors(),
                factors: (0..RECLAIM_BATCH_MAX).map(|_| jitter_factor(rng)).collect(),
                range,
            };
            let reclaiming = async move { (store.reclaim(reclaim).await, started.elapsed()) };
            self.start(reclaiming, move |worker, ended| worker.on_reclaimed(cause, ended));
        }
        if let Some(worker) = self.sweeper.next_to_forget() {
            let store = self.parts.store.clone();
            self.start(async move { store.forget(worker).await }, move |this, result| {
                this.sweeper.forgotten(worker, result.is_ok());
                this.observe(result);
            });
        }
    }

    fn on_checked(&mut self, result: Result<Vec<WorkerId>, StoreError>) {
        let absent = self.observe(result);
        if self.sweeper.checked(absent, Instant::now()) {
            self.parts.presence.renew();
        }
    }

    fn on_reclaimed(
        &mut self,
        cause: ReclaimCause,
        (result, took): (Result<Vec<Reclaimed>, StoreError>, Duration),
    ) {
        self.sweeper.reclaimed(cause, result.as_ref().map(Vec::len), took, Instant::now());
        for lease in self.observe(result).into_iter().flatten() {
            log_reclaimed(&lease, cause);
            self.parts.metrics.reclaimed(cause, &lease);
            self.scheduler.request();
        }
    }
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
