//! Mistakes in claims and releases.

use dispatcher::event::Release;
use dispatcher::store::Claimed;

use super::Mutant;
use crate::sim::model::Model;

/// Claims what is not yet due.
pub(super) struct ClaimsEarly;

impl Mutant for ClaimsEarly {
    fn before_claim(&self, model: &mut Model, now_us: i64) {
        for row in model.rows.values_mut() {
            row.due_us = row.due_us.map(|due| due.min(now_us));
        }
    }
}

/// Claims what another holds: no row lock, no look at the token.
pub(super) struct ClaimsWhatIsHeld;

impl Mutant for ClaimsWhatIsHeld {
    fn before_claim(&self, model: &mut Model, _: i64) {
        for row in model.rows.values_mut() {
            row.lease = None;
        }
    }
}

/// Claims what was delivered before.
pub(super) struct ReopensTheDelivered;

impl Mutant for ReopensTheDelivered {
    fn before_claim(&self, model: &mut Model, now_us: i64) {
        let mut ended = model
            .rows
            .values_mut()
            .filter(|row| row.finished_us.is_some());
        if let Some(row) = ended.next() {
            row.counts.status = "pending".into();
            row.counts.reason = None;
            (row.due_us, row.finished_us) = (Some(now_us), None);
        }
    }
}

/// Measures the lease by the worker's own clock.
pub(super) struct LeasesByTheWorkersClock;

impl Mutant for LeasesByTheWorkersClock {
    fn claimed(&self, model: &mut Model, worker_us: i64, claimed: &mut Claimed) {
        for claim in &claimed.claims {
            let row = model.rows.get_mut(&claim.key.id);
            if let Some(lease) = row.and_then(|row| row.lease.as_mut()) {
                lease.until_us += worker_us - lease.claimed_us;
            }
        }
    }
}

/// Begins an attempt without counting it.
pub(super) struct CountsNoAttempt;

impl Mutant for CountsNoAttempt {
    fn claimed(&self, model: &mut Model, _: i64, claimed: &mut Claimed) {
        for claim in &claimed.claims {
            if let Some(row) = model.rows.get_mut(&claim.key.id) {
                row.counts.attempt_count -= 1;
            }
        }
    }
}

/// Burns an attempt that was never sent.
pub(super) struct ReleaseBurns;

impl Mutant for ReleaseBurns {
    fn released(&self, model: &mut Model, releases: &[Release]) {
        for release in releases {
            if let Some(row) = model.rows.get_mut(&release.key.id) {
                row.counts.attempt_count += 1;
            }
        }
    }
}
