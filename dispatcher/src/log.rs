//! Log of the binary: set-up and the lines at start.

use std::io::IsTerminal;

use dispatcher::Role;
use dispatcher::config::{Config, LogConfig};
use tracing_subscriber::EnvFilter;

/// Starts the log on stdout, with the filter of `LOG` and the format of `LOG_FORMAT`.
pub(crate) fn start(config: &LogConfig) {
    let log = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(&config.filter))
        .with_target(false)
        .with_ansi(std::io::stdout().is_terminal());
    if config.json {
        log.json().init();
    } else {
        log.init();
    }
}

/// Logs the settings that an operator needs first, and the warnings about the others.
pub(crate) fn settings(config: &Config, role: Role) {
    let (worker, policy) = (&config.worker, &config.worker.policy);
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        ?role,
        bind = %config.bind,
        database = %config.database,
        in_flight_max = worker.in_flight_max,
        lease_s = worker.lease.as_secs_f64(),
        max_attempts = policy.max_attempts,
        retry_span_s = policy.span().as_secs(),
        "starting"
    );
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
}
