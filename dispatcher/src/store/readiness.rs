//! Whether the database can serve this process now.

use super::connect::PgStore;
use super::error::StoreError;
use super::schema::newest_migration;

/// Whether the database can serve this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// The database is writable, and its schema is current.
    Ready,
    /// The schema is older than this binary, or absent.
    OldSchema,
    /// The session permits no writes: the server is in recovery, or sessions are read-only.
    ReadOnly,
}

// In recovery, transactions are read-only.
const STATE: &str = "
select coalesce(max(version), 0), current_setting('transaction_read_only')::bool
from _sqlx_migrations where success";

impl PgStore {
    /// Reads the state of the database over the connection for health.
    ///
    /// # Errors
    /// Postgres is unreachable or does not reply in time.
    pub async fn readiness(&self) -> Result<Readiness, StoreError> {
        let state = self.health.run("reading the schema version", async |db| {
            sqlx::query_as(STATE).fetch_one(db).await
        });
        let (newest, is_read_only): (i64, bool) = match state.await {
            Err(error) if error.is_missing_schema() => return Ok(Readiness::OldSchema),
            state => state?,
        };
        Ok(match is_read_only {
            _ if newest < newest_migration() => Readiness::OldSchema,
            true => Readiness::ReadOnly,
            false => Readiness::Ready,
        })
    }
}
