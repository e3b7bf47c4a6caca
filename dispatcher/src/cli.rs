//! The command line, the log's form, and the signals that stop the process.

use std::io::{IsTerminal, Write};

use clap::{Parser, Subcommand};
use dispatcher::Role;
use dispatcher::config::{Config, LogConfig, settings};
use dispatcher::store::{PgStore, StoreOptions};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// A durable webhook dispatcher with at-least-once delivery.
///
/// POST /events stores an event in Postgres and answers 202; a worker sends it, signed, until its target answers 2xx. All
/// settings are environment variables; without any, it serves on 127.0.0.1:8000 with a Postgres on localhost.
#[derive(Parser)]
#[command(version, after_help = settings::help())]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Clone, Copy, Subcommand)]
pub(crate) enum Command {
    /// Take events and deliver them (the default)
    Serve,
    /// Take events only; any number of processes may share one Postgres
    Api,
    /// Deliver only; health and metrics are served on BIND
    Worker,
    /// Bring the schema up to date and end
    Migrate,
    /// Validate settings and database and say what would be done
    Check,
    /// Ask the dispatcher on BIND whether it is ready; exit 0 if so
    Healthcheck,
}

/// One clear error on stderr.
pub(crate) fn complain(error: &str) {
    let _ = writeln!(std::io::stderr(), "dispatcher: {error}");
}

/// One answer on stdout.
pub(crate) fn tell(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Brings the schema up to date.
pub(crate) async fn migrate(config: &Config) -> Result<(), String> {
    let store = PgStore::open(&StoreOptions::of(config));
    store.migrate().await.map_err(|error| error.to_string())?;
    tell("the schema is current");
    Ok(())
}

/// Logs to stdout, filtered by `LOG`, as text or JSON by `LOG_FORMAT`.
pub(crate) fn start_logging(config: &LogConfig) {
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

/// What an operator wants to know of a start.
pub(crate) fn introduce(config: &Config, role: Role) {
    let (worker, policy) = (&config.worker, &config.worker.policy);
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"), ?role, bind = %config.bind, database = %config.database,
        in_flight_max = worker.in_flight_max, lease_s = worker.lease.as_secs_f64(),
        max_attempts = policy.max_attempts, retry_span_s = policy.span().as_secs(),
        "starting"
    );
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
}

/// A token that SIGTERM and SIGINT cancel; a second signal ends the process at once.
pub(crate) fn shutdown_on_signals() -> std::io::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let shutdown = CancellationToken::new();
    let told = shutdown.clone();
    tokio::spawn(async move {
        for _ in 0..2 {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if told.is_cancelled() {
                complain("a second signal: ending at once, leases will end what is under way");
                std::process::exit(130);
            }
            told.cancel();
        }
    });
    Ok(shutdown)
}
