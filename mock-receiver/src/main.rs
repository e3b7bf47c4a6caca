//! The binary of the demo: reads arguments and environment, then serves.

mod serve;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use mock_receiver::config::{Config, settings};
use mock_receiver::health;
use rand::TryRng as _;
use rand::rngs::SysRng;

/// A chaotic webhook endpoint: POST /webhook, POST /webhook/{ordinal}, GET /receipts?since=SEQ, GET
/// /healthz. It verifies signatures, fails, delays and hangs at given rates, and keeps a journal.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Serves until SIGTERM or SIGINT. This is the default command.
    Serve,
    /// Exits with 0 if the server at BIND responds 200 within 3 s, else with 1.
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
    let matches = Arguments::command().after_help(settings::help()).get_matches();
    let arguments = Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let seed_fresh = SysRng.try_next_u64().context("drawing a seed")?;
    let config = Config::from_lookup(|name| std::env::var(name).ok(), seed_fresh)?;
    match arguments.command {
        Some(Command::Healthcheck) => health::check(config.bind).await.context("not healthy"),
        Some(Command::Serve) | None => serve::serve(config).await,
    }
}
