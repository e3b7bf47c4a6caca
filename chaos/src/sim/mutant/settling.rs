//! Mistakes in settles and in the retry rule.

use std::time::Duration;

use dispatcher::config::WorkerConfig;
use dispatcher::event::{Disposition, Settlement};

use super::Mutant;
use crate::sim::model::Model;

/// Settles under any token.
pub(super) struct NoFence;

impl Mutant for NoFence {
    fn before_settle(&self, model: &mut Model, now_us: i64, batch: &mut Vec<Settlement>) {
        batch.retain(|settlement| {
            let row = model.rows.get(&settlement.key.id);
            let lease = row.and_then(|row| row.lease);
            let fits = lease.is_some_and(|lease| lease.token == settlement.key.token);
            if !fits {
                model.settle_unfenced(now_us, settlement);
            }
            fits
        });
    }
}

/// Says that successes are written, and does not write them.
pub(super) struct DropsSuccesses;

impl Mutant for DropsSuccesses {
    fn before_settle(&self, _: &mut Model, _: i64, batch: &mut Vec<Settlement>) {
        batch.retain(|settlement| settlement.disposition != Disposition::Delivered);
    }
}

/// Tries again what was delivered.
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

/// Each retry begins the count of failures again.
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

/// Deletes what has become dead.
pub(super) struct DeletesTheDead;

impl Mutant for DeletesTheDead {
    fn before_claim(&self, model: &mut Model, _: i64) {
        model.rows.retain(|_, row| row.counts.status != "dead");
    }
}

/// The delay overflows to nothing from the third failure on.
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

/// Changes the settings that the worker goes by.
pub(super) struct Configured(pub(super) fn(&mut WorkerConfig));

impl Mutant for Configured {
    fn config(&self, config: &mut WorkerConfig) {
        (self.0)(config);
    }
}
