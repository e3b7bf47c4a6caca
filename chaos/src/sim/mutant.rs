//! Mutants: changes of the store, the transport or the settings that make one mistake each.
//!
//! They prove that the checkers detect mistakes. The worker is the unchanged dispatcher: a mutant
//! only changes the calls of the worker and their results. Every hook does nothing by default.

use dispatcher::config::WorkerConfig;
use dispatcher::event::{AttemptResult, EventId, NewEvent, Release, Settlement, WorkerId};
use dispatcher::store::{
    Claimed, Inserted, InsertedRows, OwnLeases, Reclaim, Reclaimed, StoreError,
};
use dispatcher::transport::{NotSent, Request};

use super::model::Model;

mod claiming;
mod ingest;
mod reclaiming;
mod settling;
pub mod table;
mod wire;

/// The hooks of one mistake.
#[expect(unused_variables, reason = "the default hooks do nothing")]
pub trait Mutant: Sync {
    /// Changes the settings of the worker.
    fn config(&self, config: &mut WorkerConfig) {}

    /// Replaces the insert of an event.
    fn insert(&self, model: &mut Model, event: &NewEvent) -> Option<Inserted> {
        None
    }

    /// Runs after an insert, in its transaction. `worker_us` is the clock of the process.
    fn inserted(&self, model: &mut Model, worker_us: i64, event: &NewEvent) {}

    /// Changes the result of a failed insert.
    ///
    /// # Errors
    /// Returns the error of the store, unless the mutant hides it.
    fn insert_failed(
        &self,
        ids: &[EventId],
        error: StoreError,
    ) -> Result<InsertedRows, StoreError> {
        Err(error)
    }

    /// Returns true if an insert is reported as committed when it is sent.
    fn commits_later(&self) -> bool {
        false
    }

    /// Returns true if each insert loses the permits that are free for the hand-off.
    fn loses_permits(&self) -> bool {
        false
    }

    /// Returns true if an insert with unknown outcome gets a 4xx.
    fn refuses_unknown(&self) -> bool {
        false
    }

    /// Runs before a claim, in its transaction.
    fn before_claim(&self, model: &mut Model, now_us: i64) {}

    /// Runs after a claim, in its transaction. `worker_us` is the clock of the worker.
    fn claimed(&self, model: &mut Model, worker_us: i64, claimed: &mut Claimed) {}

    /// Runs before a settle, in its transaction. Settlements that the hook removes from the batch
    /// are reported as written.
    fn before_settle(&self, model: &mut Model, now_us: i64, batch: &mut Vec<Settlement>) {}

    /// Changes the error of a settle whose data the database refused.
    fn refused(&self, error: StoreError) -> StoreError {
        error
    }

    /// Runs after a settle, with the batch that the worker sent.
    fn settled(&self, model: &mut Model, now_us: i64, batch: &[Settlement]) {}

    /// Runs after a release, in its transaction.
    fn released(&self, model: &mut Model, releases: &[Release]) {}

    /// Changes the result of a search for orphaned claims.
    fn own_leases(&self, found: OwnLeases) -> OwnLeases {
        found
    }

    /// Replaces the list of absent workers.
    fn absent(&self, model: &Model, own: WorkerId) -> Vec<WorkerId> {
        model.absent_workers(own)
    }

    /// Runs before a reclaim and may change its time. If it returns false, no lease is reclaimed.
    fn before_reclaim(&self, model: &mut Model, now_us: &mut i64, reclaim: &Reclaim) -> bool {
        true
    }

    /// Runs after a reclaim, in its transaction.
    fn reclaimed(&self, model: &mut Model, reclaim: &Reclaim, reclaimed: &[Reclaimed]) {}

    /// Replaces an attempt. Nothing is sent.
    fn instead_of_sending(&self, request: &Request) -> Option<AttemptResult> {
        None
    }

    /// Changes the result of an attempt that local exhaustion prevented.
    ///
    /// # Errors
    /// Returns the local exhaustion, unless the mutant hides it.
    fn not_sent(&self, not_sent: NotSent) -> Result<AttemptResult, NotSent> {
        Err(not_sent)
    }

    /// Changes a request before it is sent.
    fn request(&self, request: &mut Request) {}

    /// Changes the result of an attempt.
    fn answer(&self, request: &Request, answer: AttemptResult) -> AttemptResult {
        answer
    }
}
