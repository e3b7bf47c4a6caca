//! Settling: writes dispositions and releases in batches, and logs one line per settled attempt.

pub(super) mod batches;

use rand::Rng;
use tokio::time::Instant;

use super::state::Worker;
use crate::event::{Disposition, Release, Settled, Settlement};
use crate::store::{Presence, RELEASE_BATCH_MAX, Store, StoreError};
use crate::transport::Transport;

impl<S: Store, P: Presence, T: Transport, R: Rng + Send + 'static> Worker<S, P, T, R> {
    /// Starts all settles and releases that are due, unless the database is unavailable.
    pub(super) fn start_settling(&mut self) {
        let now = Instant::now();
        if !self.database.is_open(now) {
            return;
        }
        let expects_more = self.in_flight > 0;
        while let Some(batch) = self.batches.next_batch(now, expects_more) {
            let (store, settlements) = (self.parts.store.clone(), batch.clone());
            let settling = async move { store.settle(settlements).await };
            self.start(settling, |worker, result| worker.on_settled(batch, result));
        }
        if !self.is_releasing && !self.releases.is_empty() {
            self.is_releasing = true;
            let next = self.releases.len().min(RELEASE_BATCH_MAX);
            let releases: Vec<Release> = self.releases.drain(..next).collect();
            let (store, sent) = (self.parts.store.clone(), releases.clone());
            let releasing = async move { store.release(sent).await };
            self.start(releasing, |worker, result| worker.on_released(releases, result));
        }
    }

    fn on_settled(&mut self, batch: Vec<Settlement>, result: Result<Vec<Settled>, StoreError>) {
        let settled = match result {
            Ok(settled) => settled,
            Err(error) => {
                if let Some(unwritten) = self.batches.failed(batch, &error) {
                    self.handed.remove(&unwritten);
                }
                if !error.is_about_the_data() {
                    self.observe::<()>(Err(error));
                }
                return;
            }
        };
        self.database.answered(Instant::now());
        self.batches.written(batch.len());
        for (settlement, settled) in batch.iter().zip(settled) {
            self.forget(settlement.key.token);
            self.parts.metrics.settled(settlement, settled);
            log_settled(settlement, settled);
            if let Disposition::RetryAfter(delay) = settlement.disposition {
                self.scheduler.due_in(delay, Instant::now());
            }
        }
    }

    fn on_released(&mut self, releases: Vec<Release>, result: Result<usize, StoreError>) {
        self.is_releasing = false;
        if result.is_err() {
            self.releases.extend(&releases);
        } else {
            for release in &releases {
                self.forget(release.key.token);
                self.scheduler.due_in(release.delay, Instant::now());
            }
        }
        self.observe(result);
    }
}

fn log_settled(settlement: &Settlement, settled: Settled) {
    let (key, outcome) = (settlement.key, &settlement.result.outcome);
    let elapsed_ms = u64::try_from(settlement.duration.as_millis()).unwrap_or(u64::MAX);
    let (id, attempt, status) = (key.id, key.number, outcome.status());
    let (word, error) = (outcome.as_str(), settlement.result.error.as_deref());
    if settled == Settled::LeaseLost {
        tracing::warn!(event.id = %id, attempt, outcome = word, status, elapsed_ms,
            "lease lost: a reclaim or a cancel ended it, result discarded");
        return;
    }
    if settled == Settled::Unrecorded {
        tracing::error!(event.id = %id, attempt, outcome = word, status, error,
            "settled without an attempt row, the attempt number exists already");
    }
    match settlement.disposition {
        Disposition::Delivered => {
            tracing::info!(event.id = %id, attempt, outcome = word, status, elapsed_ms, "delivered");
        }
        Disposition::RetryAfter(delay) => {
            let retry_in_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
            tracing::info!(event.id = %id, attempt, outcome = word, status, error, elapsed_ms, retry_in_ms,
                "failed, will be retried");
        }
        Disposition::Dead(reason) => {
            let reason = reason.as_str();
            tracing::warn!(event.id = %id, attempt, outcome = word, status, error, elapsed_ms, reason, "dead");
        }
    }
}
