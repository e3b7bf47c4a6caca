//! Who is there: locks that live as long as a session, and rows that outlive it.

use std::collections::BTreeSet;

use dispatcher::event::WorkerId;

use super::Model;

impl Model {
    /// A holder takes its lock, and then registers.
    pub fn register(&mut self, holder: WorkerId) {
        self.locks.insert(holder);
        self.registered.insert(holder);
    }

    /// A holder's session ends, and with it its lock.
    pub fn unlock(&mut self, holder: WorkerId) {
        self.locks.remove(&holder);
    }

    /// Holders that registered and whose lock is absent, and `own` also when it is not registered, in order.
    #[must_use]
    pub fn absent_workers(&self, own: WorkerId) -> Vec<WorkerId> {
        let mut absent: BTreeSet<WorkerId> =
            self.registered.difference(&self.locks).copied().collect();
        if !self.registered.contains(&own) {
            absent.insert(own);
        }
        absent.into_iter().collect()
    }

    /// Every holder that registered and was not forgotten.
    #[must_use]
    pub fn registered(&self) -> Vec<WorkerId> {
        self.registered.iter().copied().collect()
    }

    /// Forgets a holder.
    pub fn forget(&mut self, holder: WorkerId) {
        self.registered.remove(&holder);
    }

    /// The server crashes: what is committed stays, all locks and the unlogged rows are gone.
    pub fn crash(&mut self) {
        self.locks.clear();
        self.registered.clear();
    }
}
