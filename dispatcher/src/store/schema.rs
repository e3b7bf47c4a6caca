//! The schema: embedded migrations, applied at start by whoever comes first, and whether they are current.

use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::PgPoolOptions;
use sqlx::{PgConnection, Row};
use tokio::time::timeout_at;

use super::{PgStore, StoreError};

static MIGRATIONS: Migrator = sqlx::migrate!("../migrations");

const NEWEST: &str =
    "select coalesce(max(version), 0) as newest from _sqlx_migrations where success";

/// How long to wait for the connection that migrates.
const MIGRATION_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why the schema could not be brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// Postgres is out of reach, or the attempt broke off: worth another try.
    #[error("the database is out of reach: {0}")]
    Unavailable(sqlx::Error),
    /// The schema is not ours; trying again will not mend it.
    #[error(
        "the schema cannot be migrated: {0}; point DATABASE_URL at an empty database or at one of the dispatcher's"
    )]
    Foreign(MigrateError),
}

impl PgStore {
    /// Applies what is missing. Safe when several processes start at once: the migrator holds a lock of its own. A schema
    /// that a newer binary has migrated further is left as it is.
    ///
    /// # Errors
    /// Postgres is out of reach, or the schema is not ours.
    pub async fn migrate(&self) -> Result<(), SchemaError> {
        let mut migrator = Migrator::DEFAULT;
        migrator.migrations = MIGRATIONS.migrations.clone();
        migrator.set_ignore_missing(true);
        // A connection of its own: a migration may take longer than any statement of the pools.
        let own = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(MIGRATION_CONNECT_TIMEOUT)
            .connect_with(self.presence_options.clone())
            .await
            .map_err(SchemaError::Unavailable)?;
        let migrated = migrator.run(&own).await;
        own.close().await;
        migrated.map_err(|error| match error {
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)
                if will_pass(&error) =>
            {
                SchemaError::Unavailable(error)
            }
            foreign => SchemaError::Foreign(foreign),
        })
    }

    /// Whether Postgres answers and its schema is at least as new as this binary.
    ///
    /// # Errors
    /// Postgres does not answer, or has no schema yet.
    pub async fn is_current(&self) -> Result<bool, StoreError> {
        let mut lent = self.health.lend("reading the schema's version").await?;
        let done = timeout_at(lent.deadline, newest(lent.connection())).await;
        let newest = lent.conclude(done)?;
        let ours = MIGRATIONS.iter().map(|migration| migration.version).max();
        Ok(ours.is_none_or(|ours| newest >= ours))
    }
}

/// An answer about the schema is final; no answer, and an answer about the server's state, are not.
fn will_pass(error: &sqlx::Error) -> bool {
    let answer = error.as_database_error();
    answer.is_none_or(|answer| {
        answer
            .code()
            .is_some_and(|code| StoreError::is_passing(&code))
    })
}

async fn newest(connection: &mut PgConnection) -> Result<i64, sqlx::Error> {
    sqlx::query(NEWEST)
        .fetch_one(connection)
        .await?
        .try_get("newest")
}
