//! Environment -> settings -> listener -> serve; nothing else.

mod cli;

use std::process::ExitCode;

use clap::Parser;
use dispatcher::config::Config;
use dispatcher::{Role, check, serve, transport};
use tokio::net::TcpListener;

use crate::cli::{Cli, Command};

#[tokio::main]
async fn main() -> ExitCode {
    dispatcher::install_tls_provider();
    let command = Cli::parse().command.unwrap_or(Command::Serve);
    match run(command).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            cli::complain(&error);
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> Result<(), String> {
    let config = Config::from_env().map_err(|error| error.to_string())?;
    let role = match command {
        Command::Serve => Role::Serve,
        Command::Api => Role::Api,
        Command::Worker => Role::Worker,
        Command::Migrate => return cli::migrate(&config).await,
        Command::Check => return check::check(&config).await.map(|told| cli::tell(&told)),
        Command::Healthcheck => return transport::healthcheck(config.bind).await,
    };
    cli::start_logging()?;
    let listener = TcpListener::bind(config.bind)
        .await
        .map_err(|error| format!("BIND {} cannot be listened on: {error}", config.bind))?;
    cli::introduce(&config, role);
    let shutdown = cli::shutdown_on_signals().map_err(|error| error.to_string())?;
    serve(config, role, listener, shutdown)
        .await
        .map_err(|error| error.to_string())
}
