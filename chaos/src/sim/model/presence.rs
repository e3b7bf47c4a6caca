//! Presence: session locks, which end with the session, and rows of `workers`, which remain.

use std::collections::BTreeSet;

use dispatcher::event::WorkerId;

use super::Model;

impl Model {
    /// Takes the session lock of a worker and adds its row to `workers`.
    pub fn register(&mut self, holder: WorkerId) {
        self.locks.insert(holder);
        self.registered.insert(holder);
    }

    /// Ends the session of a worker. This releases its lock.
    pub fn unlock(&mut self, holder: WorkerId) {
        self.locks.remove(&holder);
    }

    /// Returns the registered workers without a lock, in order. The caller `own` is included if it
    /// has no row.
    pub fn absent_workers(&self, own: WorkerId) -> Vec<WorkerId> {
        let mut absent: BTreeSet<WorkerId> =
            self.registered.difference(&self.locks).copied().collect();
        if !self.registered.contains(&own) {
            absent.insert(own);
        }
        absent.into_iter().collect()
    }

    /// Returns the workers that have a row in `workers`.
    pub fn registered(&self) -> Vec<WorkerId> {
        self.registered.iter().copied().collect()
    }

    /// Deletes the row of a worker.
    pub fn forget(&mut self, holder: WorkerId) {
        self.registered.remove(&holder);
    }

    /// Crashes the server. All locks and the rows of the unlogged table `workers` are lost;
    /// committed events stay.
    pub fn crash(&mut self) {
        self.locks.clear();
        self.registered.clear();
    }
}
