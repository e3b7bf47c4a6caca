//! `dispatcher check`: reports the settings in effect and the state of the database.

use crate::config::Config;
use crate::store::{PgStore, StoreError, StoreOptions};

/// The database is unreachable or refuses the connection.
#[derive(Debug, thiserror::Error)]
#[error("{0}: check DATABASE_URL, and that Postgres runs")]
pub struct CheckError(#[source] StoreError);

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
        config.database,
    );
    for warning in &config.warnings {
        summary += &format!("\n  warning: {warning}");
    }
    summary
}

/// Returns the row with the state of the schema, and the action of `dispatcher` at start.
///
/// # Errors
/// The schema cannot be read.
pub async fn schema(config: &Config) -> Result<&'static str, CheckError> {
    let store = PgStore::open(&StoreOptions::of(config));
    match store.is_current().await {
        Ok(true) => Ok("  schema    current, `dispatcher` starts without a migration"),
        Ok(false) => Ok("  schema    older than this binary, `dispatcher` migrates it at start"),
        Err(error) if error.is_missing_schema() => {
            Ok("  schema    no schema yet, `dispatcher` creates it at start")
        }
        Err(error) => Err(CheckError(error)),
    }
}
