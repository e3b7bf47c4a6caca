//! Divides a batch whose data Postgres refuses, so that one bad row does not block others.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use uuid::Uuid;

use super::error::StoreError;

/// Maximum number of statements for one batch, so that the operation ends before its deadline. A
/// single bad row in 1,000 needs 21.
const STATEMENTS_MAX: usize = 64;

/// Maximum number of refused rows that are remembered.
const LOGGED_MAX: usize = 10_000;

/// Rows that were refused alone. Each is logged once.
#[derive(Clone, Debug, Default)]
pub(super) struct RefusedRows(Arc<Mutex<BTreeSet<Uuid>>>);

impl RefusedRows {
    fn log(&self, operation: &'static str, id: Uuid, error: &sqlx::Error) {
        let mut logged = self.0.lock().expect("no code panics while it holds this lock");
        if logged.len() < LOGGED_MAX && logged.insert(id) {
            tracing::error!(event.id = %id, operation, %error,
                "the row is refused and left out, other events are not affected");
        }
    }
}

/// The parts of a batch that are still to be written.
#[derive(Debug)]
pub(super) struct Parts<'r> {
    operation: &'static str,
    parts: Vec<Vec<Uuid>>,
    statements_left: usize,
    refused: &'r RefusedRows,
}

impl<'r> Parts<'r> {
    /// Starts with all rows in one part.
    pub(super) fn of(operation: &'static str, ids: Vec<Uuid>, refused: &'r RefusedRows) -> Self {
        Self { operation, parts: vec![ids], statements_left: STATEMENTS_MAX, refused }
    }

    pub(super) fn next(&mut self) -> Option<Vec<Uuid>> {
        self.statements_left = self.statements_left.checked_sub(1)?;
        self.parts.pop()
    }

    /// Splits a part whose data was refused. A single row is left out. Returns any other error.
    pub(super) fn failed(
        &mut self,
        mut part: Vec<Uuid>,
        error: sqlx::Error,
    ) -> Result<(), sqlx::Error> {
        if !StoreError::refuses_data(&error) {
            return Err(error);
        }
        if part.len() == 1 {
            self.refused.log(self.operation, part[0], &error);
        } else {
            let rest = part.split_off(part.len() / 2);
            self.parts.extend([rest, part]);
        }
        Ok(())
    }
}
