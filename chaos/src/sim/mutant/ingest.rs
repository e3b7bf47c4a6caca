//! Mistakes between a post and its row.

use dispatcher::event::{EventId, NewEvent};
use dispatcher::store::{Inserted, StoreError};

use super::Mutant;
use crate::sim::model::Model;

/// Answers 202 and stores nothing.
pub(super) struct ForgetsAfter202;

impl Mutant for ForgetsAfter202 {
    fn insert(&self, _: &mut Model, event: &NewEvent) -> Option<Inserted> {
        Some(Inserted::Accepted(event.id))
    }
}

/// Answers 202 where nobody knows whether the commit came through.
pub(super) struct UnknownIs202;

impl Mutant for UnknownIs202 {
    fn insert_failed(&self, id: EventId, _: StoreError) -> Result<Inserted, StoreError> {
        Ok(Inserted::Accepted(id))
    }
}

/// Answers 422 where nobody knows whether the commit came through.
pub(super) struct UnknownIs422;

impl Mutant for UnknownIs422 {
    fn calls_unknown_refused(&self) -> bool {
        true
    }
}

/// Stores a second event under a key that was used before.
pub(super) struct ForgetsKeys;

impl Mutant for ForgetsKeys {
    fn inserted(&self, model: &mut Model, event: &NewEvent) {
        if let Some(key) = &event.idempotency_key {
            model.forget_key(key);
        }
    }
}

/// Keeps the JSON value instead of its bytes.
pub(super) struct Reserialises;

impl Mutant for Reserialises {
    fn inserted(&self, model: &mut Model, event: &NewEvent) {
        if let Some(row) = model.rows.get_mut(&event.id) {
            row.payload.retain(|byte| *byte != b' ');
        }
    }
}

/// Loses an event in about one run of a hundred: a harness that does not notice this is asleep.
pub(super) struct Canary;

impl Mutant for Canary {
    fn inserted(&self, model: &mut Model, event: &NewEvent) {
        // The id begins with the time of the post.
        let at_ms = event.id.0.as_u128() >> 80;
        if at_ms % 3_000 == 7 {
            model.rows.remove(&event.id);
        }
    }
}
