//! Mutants: wrappers round the store, the wire or the settings that make one mistake each.
//!
//! They show that the checkers bite. None is a switch inside the dispatcher: the worker is the real
//! one, and what lies to it, or in its name, is here. Every hook does nothing unless a mutant says so.

use dispatcher::config::WorkerConfig;
use dispatcher::event::{AttemptResult, EventId, NewEvent, Release, Settlement, WorkerId};
use dispatcher::store::{Claimed, Inserted, Reclaim, Reclaimed, StoreError};
use dispatcher::transport::{NotSent, Request};

use super::model::Model;

mod claiming;
mod ingest;
mod register;
mod settling;
mod sweeping;
mod wire;

pub use register::{MUTANTS, Specimen};

/// One mistake.
#[expect(unused_variables, reason = "a hook that does nothing uses nothing")]
pub trait Mutant: Sync {
    /// Changes the worker's settings.
    fn config(&self, config: &mut WorkerConfig) {}

    /// Answers a post instead of storing it.
    fn insert(&self, model: &mut Model, event: &NewEvent) -> Option<Inserted> {
        None
    }

    /// After an event was stored, in the same transaction.
    fn inserted(&self, model: &mut Model, event: &NewEvent) {}

    /// What a post is answered whose outcome is not known.
    ///
    /// # Errors
    /// As told, unless it lies.
    fn insert_failed(&self, id: EventId, error: StoreError) -> Result<Inserted, StoreError> {
        Err(error)
    }

    /// Answers a 4xx where nobody knows.
    fn calls_unknown_refused(&self) -> bool {
        false
    }

    /// Before a claim, in its transaction.
    fn before_claim(&self, model: &mut Model, now_us: i64) {}

    /// After a claim; `worker_us` is the worker's own clock.
    fn claimed(&self, model: &mut Model, worker_us: i64, claimed: &mut Claimed) {}

    /// Before a settle; what it takes out of the batch is answered as if it were written.
    fn before_settle(&self, model: &mut Model, now_us: i64, batch: &mut Vec<Settlement>) {}

    /// After a settle of the whole batch.
    fn settled(&self, model: &mut Model, now_us: i64, batch: &[Settlement]) {}

    /// After a release.
    fn released(&self, model: &mut Model, releases: &[Release]) {}

    /// Which holders are said to be absent.
    fn absent(&self, model: &Model, own: WorkerId) -> Vec<WorkerId> {
        model.absent_workers(own)
    }

    /// Before a reclaim, with the time that it goes by; false when none is made.
    fn before_reclaim(&self, model: &mut Model, now_us: &mut i64, reclaim: &Reclaim) -> bool {
        true
    }

    /// After a reclaim.
    fn reclaimed(&self, model: &mut Model, reclaim: &Reclaim, reclaimed: &[Reclaimed]) {}

    /// Answers an attempt without sending it.
    fn instead_of_sending(&self, request: &Request) -> Option<AttemptResult> {
        None
    }

    /// What becomes of an attempt that could not leave its machine.
    ///
    /// # Errors
    /// As told, unless it lies.
    fn not_sent(&self, why: NotSent) -> Result<AttemptResult, NotSent> {
        Err(why)
    }

    /// Changes a request before it is sent.
    fn request(&self, request: &mut Request) {}

    /// Changes what the wire said.
    fn answer(&self, request: &Request, answer: AttemptResult) -> AttemptResult {
        answer
    }
}
