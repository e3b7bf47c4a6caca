//! Whether the database can serve this process now.

use super::connect::PgStore;
use super::error::StoreError;

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
const READ_ONLY: &str = "select current_setting('transaction_read_only')::bool";

impl PgStore {
    /// Reads the state of the database over the connection for health.
    ///
    /// # Errors
    /// Postgres is unreachable or does not reply in time.
    pub async fn readiness(&self) -> Result<Readiness, StoreError> {
        match self.is_current().await {
            Ok(true) => {}
            Ok(false) => return Ok(Readiness::OldSchema),
            Err(error) if error.is_missing_schema() => return Ok(Readiness::OldSchema),
            Err(error) => return Err(error),
        }
        let is_read_only = self
            .health
            .run("reading the write mode", async |connection| {
                sqlx::query_scalar(READ_ONLY).fetch_one(connection).await
            })
            .await?;
        Ok(if is_read_only { Readiness::ReadOnly } else { Readiness::Ready })
    }
}
