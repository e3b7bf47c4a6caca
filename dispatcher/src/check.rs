//! `dispatcher check` and `dispatcher healthcheck`: what it would do, and whether a running one is well.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use crate::config::Config;
use crate::store::{PgStore, StoreOptions};

/// How long a health check waits for its answer.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(3);

/// What `dispatcher check` tells: the settings in effect and the state of the database.
///
/// # Errors
/// What keeps this configuration from working.
pub async fn check(config: &Config) -> Result<String, String> {
    let store = PgStore::open(&StoreOptions::of(config));
    let (worker, policy) = (&config.worker, &config.worker.policy);
    let mut told = format!(
        "settings hold\n  API on {}, {}\n  at most {} attempts in flight, {} a host, {} s each under a lease of {} s\n  \
         up to {} attempts over about {:.1} h, first retry after {} s\n  database {}",
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

/// Asks the dispatcher that runs with the same settings whether it is ready.
///
/// # Errors
/// That it is not, and why.
pub async fn healthcheck(bind: SocketAddr) -> Result<(), String> {
    let ip = match bind.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        named => named,
    };
    let url = format!("http://{}/readyz", SocketAddr::new(ip, bind.port()));
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(HEALTH_TIMEOUT)
        .build();
    let client = client.map_err(|error| error.to_string())?;
    let answer = client
        .get(&url)
        .send()
        .await
        .map_err(|error| format!("{url}: {error}"))?;
    if answer.status().is_success() {
        Ok(())
    } else {
        Err(format!("{url}: {}", answer.status()))
    }
}
