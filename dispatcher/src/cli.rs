//! Command line: arguments, output of the commands that do not serve, and signals.

use std::error::Error;
use std::io::Write;

use clap::{Parser, Subcommand};
use dispatcher::check;
use dispatcher::config::{Config, settings};
use dispatcher::store::{PgStore, SchemaError, StoreOptions};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A durable webhook dispatcher with at-least-once delivery.
///
/// POST /events stores an event in Postgres and returns 202. A worker sends the signed event to its
/// target until the target responds with 2xx. All settings are environment variables. Without any,
/// the dispatcher serves on 127.0.0.1:8000 and connects to Postgres on localhost.
#[derive(Parser)]
#[command(version, after_help = settings::help())]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Clone, Copy, Subcommand)]
pub(crate) enum Command {
    /// Accept events and deliver them (default)
    Serve,
    /// Accept events only; any number of processes can share one Postgres
    Api,
    /// Deliver events only; BIND serves health and metrics
    Worker,
    /// Update the database schema and exit
    Migrate,
    /// Check the settings and the database, print the result and exit
    Check,
    /// Request /readyz on BIND; exit code 0 if the dispatcher is ready, else 1
    Healthcheck,
}

/// Writes one error to stderr. A failed write is ignored, because there is no other place for it.
pub(crate) fn print_error(error: &str) {
    let _ = writeln!(std::io::stderr(), "dispatcher: {error}");
}

/// Updates the schema to that of this binary.
pub(crate) async fn migrate(config: &Config) -> Result<(), Box<dyn Error>> {
    let store = PgStore::open(&StoreOptions::of(config));
    // Another process migrates, or uses a table that a migration changes.
    while let Err(error) = store.migrate().await {
        match (&error, error.retry_after()) {
            (SchemaError::Locked(_), Some(pause)) => {
                print_error(&error.to_string());
                tokio::time::sleep(pause).await;
            }
            _ => return Err(error.into()),
        }
    }
    print("the schema is current");
    Ok(())
}

/// Prints the settings, then the state of the database.
pub(crate) async fn check(config: &Config) -> Result<(), Box<dyn Error>> {
    print(&check::settings(config));
    Ok(check::database(config, print).await?)
}

/// Returns a token that SIGTERM or SIGINT cancels. A second signal ends the process immediately.
pub(crate) fn shutdown_on_signals() -> std::io::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let shutdown = CancellationToken::new();
    let signalled = shutdown.clone();
    tokio::spawn(async move {
        for _ in 0..2 {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if signalled.is_cancelled() {
                print_error("second signal: exiting now, open attempts end with their leases");
                std::process::exit(130);
            }
            signalled.cancel();
        }
    });
    Ok(shutdown)
}

fn print(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}
