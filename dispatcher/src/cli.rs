//! Command line: arguments, output of the commands that do not serve, and signals.

use std::error::Error;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use clap::{Parser, Subcommand};
use dispatcher::config::{Config, settings};
use dispatcher::store::{PgStore, SchemaError};
use dispatcher::{check, log};
use nix::sys::signal::Signal;
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

/// Time limit of an error message whose reader has stalled.
const ERROR_PRINT_MAX: Duration = Duration::from_secs(1);

/// Time that a second signal leaves for the last lines of the log.
const LAST_LINES_MAX: Duration = Duration::from_millis(100);

/// Signals that stop the process gracefully.
const STOP_SIGNALS: [SignalKind; 4] =
    [SignalKind::hangup(), SignalKind::interrupt(), SignalKind::quit(), SignalKind::terminate()];

/// Writes one error to stderr. A failed write is ignored, because there is no other place for it.
/// A separate thread writes, because the end of the process must not wait for a stalled reader.
pub(crate) fn print_error(error: &str) {
    let (done, written) = mpsc::channel();
    let line = format!("dispatcher: {error}\n");
    thread::spawn(move || {
        let _ = std::io::stderr().write_all(line.as_bytes());
        let _ = done.send(());
    });
    let _ = written.recv_timeout(ERROR_PRINT_MAX);
}

/// Updates the schema to that of this binary.
pub(crate) async fn migrate(config: &Config) -> Result<(), Box<dyn Error>> {
    let store = PgStore::open(&config.store);
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

/// Returns a token that the first of [`STOP_SIGNALS`] cancels. A second one ends the process
/// immediately.
pub(crate) fn shutdown_on_signals() -> std::io::Result<CancellationToken> {
    static STOPPING: AtomicBool = AtomicBool::new(false);
    // A log file at its size limit raises this signal, which would end the process. With a handler,
    // the write fails instead.
    let _ = signal(SignalKind::from_raw(Signal::SIGXFSZ as i32))?;
    let shutdown = CancellationToken::new();
    for kind in STOP_SIGNALS {
        let (mut received, shutdown) = (signal(kind)?, shutdown.clone());
        tokio::spawn(async move {
            while received.recv().await.is_some() {
                if STOPPING.swap(true, Ordering::Relaxed) {
                    tracing::warn!("second signal, exiting now, open attempts are reclaimed");
                    log::flush(LAST_LINES_MAX);
                    std::process::exit(130);
                }
                shutdown.cancel();
            }
        });
    }
    Ok(shutdown)
}

fn print(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}
