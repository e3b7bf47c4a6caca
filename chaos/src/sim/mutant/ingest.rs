//! Mutants of the insert.

use chrono::DateTime;
use dispatcher::event::{EventId, NewEvent};
use dispatcher::store::{Inserted, InsertedRows, StoreError};

use super::Mutant;
use crate::sim::model::Model;

/// Acknowledges an event and does not store it.
pub(super) struct AcknowledgesUnstored;

impl Mutant for AcknowledgesUnstored {
    fn insert(&self, _: &mut Model, event: &NewEvent) -> Option<Inserted> {
        Some(Inserted::Accepted(event.id))
    }
}

/// Responds 202 if the outcome of the commit is unknown.
pub(super) struct AcknowledgesUnknown;

impl Mutant for AcknowledgesUnknown {
    fn insert_failed(
        &self,
        ids: &[EventId],
        error: StoreError,
    ) -> Result<InsertedRows, StoreError> {
        if error.is_unknown() { Ok(accepted(ids)) } else { Err(error) }
    }
}

/// Responds 202 to the posts of a half whose data the database refused.
pub(super) struct AcknowledgesRefused;

impl Mutant for AcknowledgesRefused {
    fn insert_failed(
        &self,
        ids: &[EventId],
        error: StoreError,
    ) -> Result<InsertedRows, StoreError> {
        if error.is_about_the_data() { Ok(accepted(ids)) } else { Err(error) }
    }
}

fn accepted(ids: &[EventId]) -> InsertedRows {
    let events = ids.iter().copied().map(Inserted::Accepted).collect();
    InsertedRows { now: DateTime::UNIX_EPOCH, events }
}

/// Responds 202 and hands the events over before the commit.
pub(super) struct HandsOverUncommitted;

impl Mutant for HandsOverUncommitted {
    fn commits_later(&self) -> bool {
        true
    }
}

/// Does not return permits. A run has few inserts, so each one loses all that are free.
pub(super) struct LosesPermits;

impl Mutant for LosesPermits {
    fn loses_permits(&self) -> bool {
        true
    }
}

/// Responds 422 if the outcome of the commit is unknown.
pub(super) struct RefusesUnknown;

impl Mutant for RefusesUnknown {
    fn refuses_unknown(&self) -> bool {
        true
    }
}

/// Stores a second event with the same idempotency key.
pub(super) struct ForgetsKeys;

impl Mutant for ForgetsKeys {
    fn inserted(&self, model: &mut Model, _: i64, event: &NewEvent) {
        if let Some(key) = &event.idempotency_key {
            model.forget_key(key);
        }
    }
}

/// Stores the JSON value and not its bytes.
pub(super) struct Reserialises;

impl Mutant for Reserialises {
    fn inserted(&self, model: &mut Model, _: i64, event: &NewEvent) {
        if let Some(row) = model.rows.get_mut(&event.id) {
            row.payload.retain(|byte| *byte != b' ');
        }
    }
}

/// Loses an event in about 1 % of the runs. A long run must detect such a rare loss.
pub(super) struct Canary;

impl Mutant for Canary {
    fn inserted(&self, model: &mut Model, _: i64, event: &NewEvent) {
        // The upper bits of the id are the time of the post.
        let at_ms = event.id.0.as_u128() >> 80;
        if at_ms % 3_000 == 7 {
            model.rows.remove(&event.id);
        }
    }
}
