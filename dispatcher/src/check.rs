//! `dispatcher check`: reports the settings in effect and the state of the database.

use std::sync::Arc;

use rand::rngs::StdRng;

use crate::config::Config;
use crate::event::WorkerId;
use crate::store::{PgPresence, PgStore, SchemaError, SchemaState, StoreError};

/// Why `serve` would not work with this database.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The database is unreachable or refuses the connection.
    #[error("{0}: check DATABASE_URL, and that Postgres runs")]
    Unreachable(#[source] SchemaError),
    /// The sessions or the schema cannot be used.
    #[error(transparent)]
    Schema(SchemaError),
    /// The database accepts no writes.
    #[error("{0}: point DATABASE_URL at a server that accepts writes")]
    ReadOnly(String),
    /// The role cannot run with the schema, or cannot migrate it.
    #[error("the role of DATABASE_URL lacks {0}: grant the rights that the README lists")]
    Rights(String),
    /// The worker could not hold its presence.
    #[error("{0}")]
    Presence(#[source] StoreError),
}

impl From<SchemaError> for CheckError {
    fn from(error: SchemaError) -> Self {
        match error {
            SchemaError::Unavailable(_) | SchemaError::Pool(_) => Self::Unreachable(error),
            other => Self::Schema(other),
        }
    }
}

/// Returns a summary of the settings, with the warnings about them.
pub fn settings(config: &Config) -> String {
    let (worker, policy) = (&config.worker, &config.worker.policy);
    let access = if config.api.keys.is_empty() {
        "open to every client"
    } else {
        "requires one of the API_KEYS"
    };
    let presence = if worker.presence {
        "session lock (behind a pooler in transaction mode, set PRESENCE=false)"
    } else {
        "off, the leases of a killed worker end only when they expire"
    };
    let mut summary = format!(
        "settings valid\n  \
         API       {}, {access}\n  \
         attempts  at most {} at the same time and {} per host, {} s each, lease {} s\n  \
         retries   up to {} attempts in about {:.1} h, first retry after {} s\n  \
         database  {}\n  \
         presence  {presence}",
        config.bind,
        worker.in_flight_max,
        worker.in_flight_per_host_max,
        worker.http_timeout.as_secs_f64(),
        worker.lease.as_secs_f64(),
        policy.max_attempts,
        policy.span().as_secs_f64() / 3_600.0,
        policy.base.as_secs_f64(),
        config.store.database,
    );
    for warning in &config.warnings {
        summary += &format!("\n  warning: {warning}");
    }
    summary
}

/// Does with the database what `serve` would do before its first claim, except for a migration, and
/// prints each result.
///
/// # Errors
/// `serve` would not work with this database.
pub async fn database(config: &Config, print: impl Fn(&str)) -> Result<(), CheckError> {
    let store = PgStore::open(&config.store);
    let found = store.inspect().await?;
    print(&format!("  server    {}", found.server));
    for setting in found.unsafe_settings {
        print(&format!(
            "  warning: {setting} is not on, so a crash of the server can lose accepted events"
        ));
    }
    if let Some(reason) = found.read_only {
        return Err(CheckError::ReadOnly(reason));
    }
    let schema = found.schema?;
    print(match schema {
        SchemaState::Current => "  schema    current, `dispatcher` starts without a migration",
        SchemaState::Older => {
            "  schema    older than this binary, `dispatcher` migrates it at start"
        }
        SchemaState::Absent => "  schema    no schema yet, `dispatcher` creates it at start",
    });
    if !found.missing_rights.is_empty() {
        return Err(CheckError::Rights(found.missing_rights.join(", ")));
    }
    print("  rights    sufficient");
    if config.worker.presence && schema == SchemaState::Current {
        let mut rng: StdRng = rand::make_rng();
        let worker = WorkerId::random(&mut rng);
        let presence = PgPresence::new(&store, worker, true, Arc::default());
        presence.probe().await.map_err(CheckError::Presence)?;
        print("  presence  held, and other sessions see it");
    }
    Ok(())
}
