//! The demo's binary: environment to settings, bind, serve until a signal comes. Nothing else.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use mock_receiver::config::Config;
use mock_receiver::{Journal, Receiver, health};
use rand::TryRng as _;
use rand::rngs::SysRng;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// A chaotic webhook endpoint: POST /webhook, POST /webhook/{ordinal}, GET /receipts?since=SEQ,
/// GET /healthz. It verifies every signature, fails, delays and hangs by rate, and keeps a journal.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Serves (the same as no command).
    Serve,
    /// Exits with 0 when the server at BIND answers, else with 1.
    Healthcheck,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mock-receiver: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> anyhow::Result<()> {
    let matches = Arguments::command()
        .after_help(Config::help())
        .get_matches();
    let arguments = Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let seed_fresh = SysRng.try_next_u64().context("drawing a seed")?;
    let config = Config::from_lookup(|name| std::env::var(name).ok(), seed_fresh)
        .context("these settings cannot be used")?;
    match arguments.command {
        Some(Command::Healthcheck) => health::check(config.bind).await.context("not healthy"),
        Some(Command::Serve) | None => serve(config).await,
    }
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).init();
    let bind = config.bind;
    let listener = TcpListener::bind(bind)
        .await
        .with_context(|| format!("binding {bind}"))?;
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    let script = config.demo.into_script();
    let journal = Journal::bounded(config.receipts_max);
    let receiver = Receiver::start(listener, config.secrets, script, journal);
    tracing::info!(
        "listening on {}; replay: SEED={:#x}",
        receiver.address(),
        config.demo.seed
    );
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    receiver.stop().await;
    tracing::info!("stopped");
    Ok(())
}
