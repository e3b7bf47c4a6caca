//! Mutants of claim and release.

use dispatcher::event::{EventId, NewEvent, Release};
use dispatcher::store::{Claimed, OwnLeases};

use super::Mutant;
use crate::sim::model::{Model, Row};

/// Claims events before they are due.
pub(super) struct ClaimsEarly;

impl Mutant for ClaimsEarly {
    fn before_claim(&self, model: &mut Model, now_us: i64) {
        for row in model.rows.values_mut() {
            row.due_us = row.due_us.map(|due| due.min(now_us));
        }
    }
}

/// Claims leased events: ignores row locks and lease tokens.
pub(super) struct ClaimsLeased;

impl Mutant for ClaimsLeased {
    fn before_claim(&self, model: &mut Model, _: i64) {
        for row in model.rows.values_mut() {
            row.lease = None;
        }
    }
}

/// Claims final events again.
pub(super) struct ClaimsFinal;

impl Mutant for ClaimsFinal {
    fn before_claim(&self, model: &mut Model, now_us: i64) {
        let rows = &mut model.rows;
        let is_final = |row: &&mut Row| row.finished_us.is_some();
        if let Some(row) = rows.values_mut().find(is_final) {
            row.counts.status = "pending".into();
            row.counts.reason = None;
            (row.due_us, row.finished_us) = (Some(now_us), None);
        }
    }
}

/// Computes the end of the lease with the clock of the worker.
pub(super) struct LeasesByWorkerClock;

impl Mutant for LeasesByWorkerClock {
    fn claimed(&self, model: &mut Model, worker_us: i64, claimed: &mut Claimed) {
        for claim in &claimed.claims {
            lease_by_clock(model, claim.key.id, worker_us);
        }
    }
}

/// Computes the end of the lease of an event that is handed over with the clock of the process.
pub(super) struct HandsOverByWorkerClock;

impl Mutant for HandsOverByWorkerClock {
    fn inserted(&self, model: &mut Model, worker_us: i64, event: &NewEvent) {
        lease_by_clock(model, event.id, worker_us);
    }
}

fn lease_by_clock(model: &mut Model, id: EventId, clock_us: i64) {
    if let Some(lease) = model.rows.get_mut(&id).and_then(|row| row.lease.as_mut()) {
        lease.until_us += clock_us - lease.claimed_us;
    }
}

/// Begins attempts without counting them.
pub(super) struct ClaimsUncounted;

impl Mutant for ClaimsUncounted {
    fn claimed(&self, model: &mut Model, _: i64, claimed: &mut Claimed) {
        for claim in &claimed.claims {
            if let Some(row) = model.rows.get_mut(&claim.key.id) {
                row.counts.attempt_count -= 1;
            }
        }
    }
}

/// Counts a released claim as an attempt.
pub(super) struct ReleaseCounts;

impl Mutant for ReleaseCounts {
    fn released(&self, model: &mut Model, releases: &[Release]) {
        for release in releases {
            if let Some(row) = model.rows.get_mut(&release.key.id) {
                row.counts.attempt_count += 1;
            }
        }
    }
}

/// Never finds the claims whose replies were lost. Their leases expire.
pub(super) struct NeverFindsOrphans;

impl Mutant for NeverFindsOrphans {
    fn own_leases(&self, _: OwnLeases) -> OwnLeases {
        OwnLeases { keys: Vec::new(), may_grow: false }
    }
}
