//! The schema: applies the embedded migrations at start, and compares the version of the database
//! with this binary.
//!
//! A current schema is only read, so a start needs neither DDL rights nor a lock. A wait for a lock
//! of the migration is limited, because waiting DDL blocks every statement on its table.

use std::time::Duration;

use sqlx::migrate::{Migrate, MigrateError, Migration, Migrator};
use sqlx::{Connection, PgConnection};
use tokio::time::timeout;

use super::connect::PgStore;
use super::error::{StoreError, has_sqlstate};
use super::session::{CONNECT_TIMEOUT, is_refused, no_reply};

static MIGRATIONS: Migrator = sqlx::migrate!("../migrations");

/// Tables that the dispatcher reads and writes, beside that of the migrations.
pub(super) const TABLES: [&str; 3] = ["webhook_events", "delivery_attempts", "workers"];

/// Table of the applied migrations.
const TABLE: &str = "_sqlx_migrations";

const APPLIED: &str = "select version, checksum, success from _sqlx_migrations";

/// Pause after a failed try to reach the database.
const UNAVAILABLE_PAUSE: Duration = Duration::from_millis(250);

/// Pause after a try that met a lock or too few rights. Between two waits for a table lock, the
/// statements that queue behind it run.
const LOCKED_PAUSE: Duration = Duration::from_secs(2);

/// Why the schema could not be migrated.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// Postgres is unreachable or the migration was interrupted. A retry may succeed.
    #[error("the database is unavailable: {0}")]
    Unavailable(sqlx::Error),
    /// Another session holds a lock for longer than `lock_timeout`. A retry may succeed.
    #[error("{0}")]
    Locked(&'static str),
    /// The role lacks a right. A retry succeeds after it was granted, or after the owner of the
    /// tables has migrated them.
    #[error(
        "the role may not read or migrate the schema ({0}): run `dispatcher migrate` as the owner \
         of the tables, and grant the rights that the README lists"
    )]
    NotPermitted(sqlx::Error),
    /// A pool cannot open a session. A retry may succeed.
    #[error(transparent)]
    Pool(StoreError),
    /// The server or a pooler does not apply the session settings, or the encoding is not UTF8.
    #[error(transparent)]
    Session(sqlx::Error),
    /// The schema does not belong to this program. A retry does not help.
    #[error(
        "the schema cannot be migrated: {0}; point DATABASE_URL at an empty database or at a database of the dispatcher"
    )]
    Foreign(MigrateError),
}

const MIGRATING: &str =
    "waiting for the lock of the migrations (pg_advisory_lock): another process migrates";
const TABLE_LOCKED: &str = "waiting for a table lock that the migration needs: another session \
                            uses the table (see pg_locks)";

impl SchemaError {
    /// Returns the pause before the next try, or `None` if a retry does not help.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable(_) | Self::Pool(_) => Some(UNAVAILABLE_PAUSE),
            Self::Locked(_) | Self::NotPermitted(_) => Some(LOCKED_PAUSE),
            Self::Session(_) | Self::Foreign(_) => None,
        }
    }

    /// Classifies an error of opening a session. A password or a database that is wrong now may be
    /// right later.
    pub(super) fn opening(error: sqlx::Error) -> Self {
        match Self::of(error) {
            Self::Foreign(MigrateError::Execute(error)) => Self::Unavailable(error),
            other => other,
        }
    }

    fn of(error: sqlx::Error) -> Self {
        // 42501: insufficient privilege; 3F000: no schema in which the role may create tables.
        if has_sqlstate(&error, &["42501", "3F000"]) {
            Self::NotPermitted(error)
        } else if has_sqlstate(&error, &["55P03"]) {
            Self::Locked(TABLE_LOCKED)
        } else if is_refused(&error) {
            Self::Session(error)
        } else if is_temporary(&error) {
            Self::Unavailable(error)
        } else {
            Self::Foreign(MigrateError::Execute(error))
        }
    }
}

impl From<MigrateError> for SchemaError {
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
                Self::of(error)
            }
            foreign => Self::Foreign(foreign),
        }
    }
}

impl PgStore {
    /// Applies missing migrations. Safe if several processes start concurrently, because the
    /// migrator takes a lock. A schema that a newer binary has migrated further is not changed.
    ///
    /// # Errors
    /// Postgres is unreachable, the role lacks rights, another session holds a lock, or the schema
    /// does not belong to this program.
    pub async fn migrate(&self) -> Result<(), SchemaError> {
        let mut session = self.migration.open().await.map_err(SchemaError::opening)?;
        if !missing(&mut session).await?.is_empty() {
            tracing::info!("migrating the schema");
            migrate(&mut session).await?;
        }
        // An error ends the session as well, and with it the lock.
        let _ = session.close().await;
        Ok(())
    }
}

/// Returns the version of the newest migration of this binary.
pub(super) fn newest_migration() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0)
}

/// Returns the migrations of this binary that the database lacks.
pub(super) async fn missing(db: &mut PgConnection) -> Result<Vec<&'static Migration>, SchemaError> {
    let reading = timeout(CONNECT_TIMEOUT, sqlx::query_as(APPLIED).fetch_all(db)).await;
    let rows: Vec<(i64, Vec<u8>, bool)> = match reading.unwrap_or_else(|_| Err(no_reply())) {
        // 42P01: undefined table.
        Err(error) if has_sqlstate(&error, &["42P01"]) => Vec::new(),
        rows => rows.map_err(SchemaError::of)?,
    };
    let mut missing = Vec::new();
    for ours in MIGRATIONS.iter() {
        match rows.iter().find(|(version, ..)| *version == ours.version) {
            None => missing.push(ours),
            Some((_, _, false)) => return Err(MigrateError::Dirty(ours.version).into()),
            Some((_, checksum, true)) if **checksum != *ours.checksum => {
                return Err(MigrateError::VersionMismatch(ours.version).into());
            }
            Some(_) => {}
        }
    }
    Ok(missing)
}

async fn migrate(session: &mut PgConnection) -> Result<(), SchemaError> {
    // The lock that every version of this program takes before it migrates.
    session.lock().await.map_err(|error| match error.into() {
        SchemaError::Locked(_) => SchemaError::Locked(MIGRATING),
        other => other,
    })?;
    session.ensure_migrations_table(TABLE).await?;
    // Read again, because another process may have migrated before this one got the lock.
    for migration in missing(session).await? {
        session.apply(TABLE, migration).await?;
    }
    Ok(())
}

/// Returns true if a retry may succeed: Postgres did not reply, or reported a temporary state of
/// the server.
fn is_temporary(error: &sqlx::Error) -> bool {
    let reply = error.as_database_error();
    reply.is_none_or(|reply| reply.code().is_some_and(|code| StoreError::is_temporary(&code)))
}
