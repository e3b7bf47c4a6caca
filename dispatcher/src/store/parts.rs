//! Divides a batch whose data Postgres refuses, so that one bad row does not block others.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;
use sqlx::PgConnection;
use sqlx::postgres::PgRow;
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
    /// Runs `statement` for the parts of a batch and collects its rows, also those before an error.
    /// A part whose data is refused is divided, and a single row is left out. Returns any other
    /// error.
    pub(super) async fn in_parts(
        &self,
        operation: &'static str,
        db: &mut PgConnection,
        ids: Vec<Uuid>,
        rows: &mut Vec<PgRow>,
        statement: impl AsyncFnOnce(&mut PgConnection, &[Uuid]) -> sqlx::Result<Vec<PgRow>> + Clone,
    ) -> sqlx::Result<()> {
        let mut parts = vec![ids];
        for _ in 0..STATEMENTS_MAX {
            let Some(mut part) = parts.pop() else { break };
            match statement.clone()(db, &part).await {
                Ok(written) => rows.extend(written),
                Err(error) if !StoreError::refuses_data(&error) => return Err(error),
                Err(error) if part.len() == 1 => self.log(operation, part[0], &error),
                Err(_) => {
                    let rest = part.split_off(part.len() / 2);
                    parts.extend([rest, part]);
                }
            }
        }
        Ok(())
    }

    fn log(&self, operation: &'static str, id: Uuid, error: &sqlx::Error) {
        let mut logged = self.0.lock();
        if logged.len() < LOGGED_MAX && logged.insert(id) {
            tracing::error!(event.id = %id, operation, %error,
                "the row is refused and left out, other events are not affected");
        }
    }
}
