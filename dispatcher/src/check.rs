//! `dispatcher check`: what it would do with these settings and this database.

use crate::config::Config;
use crate::store::{PgStore, StoreOptions};

/// What `dispatcher check` tells: the settings in effect and the state of the database.
///
/// # Errors
/// What keeps this configuration from working.
pub async fn check(config: &Config) -> Result<String, String> {
    let store = PgStore::open(&StoreOptions::of(config));
    let (worker, policy) = (&config.worker, &config.worker.policy);
    let mut told = format!(
        "settings hold\n  API on {}, {}\n  at most {} attempts in flight, {} a host, {} s each under a lease of {} s\n  \
         up to {} attempts over about {:.1} h, first retry after {} s\n  database {}, {}",
        config.bind,
        if config.api.keys.is_empty() {
            "open to everybody"
        } else {
            "behind API_KEYS"
        },
        worker.in_flight_max,
        worker.in_flight_per_host_max,
        worker.http_timeout.as_secs_f64(),
        worker.lease.as_secs_f64(),
        policy.max_attempts,
        policy.span().as_secs_f64() / 3_600.0,
        policy.base.as_secs_f64(),
        config.database,
        presence(worker.presence),
    );
    for warning in &config.warnings {
        told += &format!("\n  warning: {warning}");
    }
    match store.is_current().await {
        Ok(true) => Ok(told + "\n  schema current: `dispatcher` would start at once"),
        Ok(false) => Ok(told + "\n  schema older: `dispatcher` would migrate it first"),
        Err(error) if error.is_missing_schema() => {
            Ok(told + "\n  no schema yet: `dispatcher` would create it first")
        }
        Err(error) => Err(format!(
            "{told}\n  {error}\n  is DATABASE_URL right, and does Postgres run?"
        )),
    }
}

/// How others know that this process lives; what an operator behind a pooler must have seen.
fn presence(is_shown: bool) -> &'static str {
    if is_shown {
        "presence by a session's lock (behind a pooler in transaction mode: PRESENCE=false)"
    } else {
        "no presence: leases alone end what a killed worker held"
    }
}
