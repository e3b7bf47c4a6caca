//! The schema: applies the embedded migrations at start, and compares the version of the database
//! with this binary.

use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::PgPoolOptions;
use sqlx::{PgConnection, Row};

use super::connect::PgStore;
use super::error::StoreError;

static MIGRATIONS: Migrator = sqlx::migrate!("../migrations");

const NEWEST: &str =
    "select coalesce(max(version), 0) as newest from _sqlx_migrations where success";

/// Timeout of the connection that migrates.
const MIGRATION_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why the schema could not be migrated.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// Postgres is unreachable or the migration was interrupted. A retry may succeed.
    #[error("the database is unavailable: {0}")]
    Unavailable(sqlx::Error),
    /// The schema does not belong to this program. A retry does not help.
    #[error(
        "the schema cannot be migrated: {0}; point DATABASE_URL at an empty database or at a database of the dispatcher"
    )]
    Foreign(MigrateError),
}

impl PgStore {
    /// Applies missing migrations. Safe if several processes start concurrently, because the
    /// migrator takes a lock. A schema that a newer binary has migrated further is not changed.
    ///
    /// # Errors
    /// Postgres is unreachable, or the schema does not belong to this program.
    pub async fn migrate(&self) -> Result<(), SchemaError> {
        let mut migrator = Migrator::DEFAULT;
        migrator.migrations = MIGRATIONS.migrations.clone();
        migrator.set_ignore_missing(true);
        // A dedicated connection: a migration may take longer than the statement timeout of the
        // pools.
        let single = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(MIGRATION_CONNECT_TIMEOUT)
            .connect_with(self.migration.options())
            .await
            .map_err(SchemaError::Unavailable)?;
        let migrated = migrator.run(&single).await;
        single.close().await;
        migrated.map_err(|error| match error {
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)
                if is_temporary(&error) =>
            {
                SchemaError::Unavailable(error)
            }
            foreign => SchemaError::Foreign(foreign),
        })
    }

    /// Returns true if the schema is at least as new as this binary.
    ///
    /// # Errors
    /// Postgres is unreachable, does not reply in time, or has no schema yet.
    pub async fn is_current(&self) -> Result<bool, StoreError> {
        let newest = self
            .health
            .run("reading the schema version", async |connection| {
                newest(connection).await
            })
            .await?;
        let ours = MIGRATIONS.iter().map(|migration| migration.version).max();
        Ok(ours.is_none_or(|ours| newest >= ours))
    }
}

/// Returns true if a retry may succeed: Postgres did not reply, or reported a temporary state of
/// the server.
fn is_temporary(error: &sqlx::Error) -> bool {
    let reply = error.as_database_error();
    reply.is_none_or(|reply| {
        reply
            .code()
            .is_some_and(|code| StoreError::is_temporary(&code))
    })
}

async fn newest(connection: &mut PgConnection) -> Result<i64, sqlx::Error> {
    sqlx::query(NEWEST)
        .fetch_one(connection)
        .await?
        .try_get("newest")
}
