//! Mutants of the settle and of the retry rule.

use std::time::Duration;

use dispatcher::config::WorkerConfig;
use dispatcher::event::{Disposition, Settlement};
use dispatcher::store::StoreError;

use super::Mutant;
use crate::sim::model::Model;

/// Settles with any lease token.
pub(super) struct NoFence;

impl Mutant for NoFence {
    fn before_settle(&self, model: &mut Model, now_us: i64, batch: &mut Vec<Settlement>) {
        batch.retain(|settlement| {
            let row = model.rows.get(&settlement.key.id);
            let lease = row.and_then(|row| row.lease);
            let is_current = lease.is_some_and(|lease| lease.token == settlement.key.token);
            if !is_current {
                model.settle_unfenced(now_us, settlement);
            }
            is_current
        });
    }
}

/// Reports successes as written and does not write them.
pub(super) struct DropsSuccesses;

impl Mutant for DropsSuccesses {
    fn before_settle(&self, _: &mut Model, _: i64, batch: &mut Vec<Settlement>) {
        batch.retain(|settlement| settlement.disposition != Disposition::Delivered);
    }
}

/// Treats refused data as an outage: the batch is not split and is written again as it is.
pub(super) struct TreatsRefusedDataAsOutage;

impl Mutant for TreatsRefusedDataAsOutage {
    fn refused(&self, _: StoreError) -> StoreError {
        StoreError::Unavailable { operation: "settle", reason: "connection refused".into() }
    }
}

/// Retries delivered events.
pub(super) struct RetriesSuccesses;

impl Mutant for RetriesSuccesses {
    fn before_settle(&self, _: &mut Model, _: i64, batch: &mut Vec<Settlement>) {
        for settlement in batch {
            if settlement.disposition == Disposition::Delivered {
                settlement.disposition = Disposition::RetryAfter(Duration::from_millis(200));
            }
        }
    }
}

/// Resets the number of failures with each retry.
pub(super) struct RetryResetsFailures;

impl Mutant for RetryResetsFailures {
    fn settled(&self, model: &mut Model, _: i64, batch: &[Settlement]) {
        for settlement in batch {
            if let Some(row) = model.rows.get_mut(&settlement.key.id) {
                row.counts.failure_count = row.counts.failure_count.min(1);
            }
        }
    }
}

/// Deletes dead events.
pub(super) struct DeletesDead;

impl Mutant for DeletesDead {
    fn before_claim(&self, model: &mut Model, _: i64) {
        model.rows.retain(|_, row| row.counts.status != "dead");
    }
}

/// The delay overflows to zero from the third failure on.
pub(super) struct DelayOverflows;

impl Mutant for DelayOverflows {
    fn settled(&self, model: &mut Model, now_us: i64, batch: &[Settlement]) {
        for settlement in batch {
            let row = model.rows.get_mut(&settlement.key.id);
            if let Some(row) = row.filter(|row| row.counts.failure_count >= 3) {
                row.due_us = row.due_us.map(|_| now_us);
            }
        }
    }
}

/// Changes the settings of the worker.
pub(super) struct Configured(pub(super) fn(&mut WorkerConfig));

impl Mutant for Configured {
    fn config(&self, config: &mut WorkerConfig) {
        (self.0)(config);
    }
}

/// Sets every delay to zero.
pub(super) fn no_delay(config: &mut WorkerConfig) {
    config.policy.base = Duration::ZERO;
}

/// Raises the upper limit of the delay.
pub(super) fn no_delay_cap(config: &mut WorkerConfig) {
    config.policy.cap *= 8;
}

/// Ignores the requested delay of a receiver.
pub(super) fn ignores_retry_after(config: &mut WorkerConfig) {
    config.policy.retry_after_cap = Duration::ZERO;
}

/// Makes one attempt more than the limit.
pub(super) fn one_attempt_more(config: &mut WorkerConfig) {
    config.policy.max_attempts += 1;
}

/// Makes one attempt less than the limit.
pub(super) fn one_attempt_less(config: &mut WorkerConfig) {
    config.policy.max_attempts -= 1;
}

/// Lets an event die after its first abandoned attempt.
pub(super) fn one_abandonment(config: &mut WorkerConfig) {
    config.policy.max_abandoned = 1;
}
