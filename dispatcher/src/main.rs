//! Entry point: environment -> settings -> listener -> serve.

mod cli;

use std::error::Error;
use std::process::ExitCode;

use clap::Parser;
use dispatcher::config::Config;
use dispatcher::{Role, descriptors, log, serve, transport};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use crate::cli::{Cli, Command};

fn main() -> ExitCode {
    dispatcher::install_tls_provider();
    let command = Cli::parse().command.unwrap_or(Command::Serve);
    match start(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            cli::print_error(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

fn start(command: Command) -> Result<(), Box<dyn Error>> {
    let runtime = Runtime::new().map_err(|error| format!("starting the async runtime: {error}"))?;
    let result = runtime.block_on(run(command));
    // A running name resolution is a thread that cannot be stopped. It would delay the exit.
    runtime.shutdown_background();
    result
}

async fn run(command: Command) -> Result<(), Box<dyn Error>> {
    let mut config = Config::from_env()?;
    let role = match command {
        Command::Serve | Command::Check => Role::Serve,
        Command::Api => Role::Api,
        Command::Worker => Role::Worker,
        Command::Migrate => return cli::migrate(&config).await,
        Command::Healthcheck => return Ok(transport::healthcheck(config.bind).await?),
    };
    let limit = descriptors::raise_limit()
        .map_err(|error| format!("raising the limit of file descriptors: {error}"))?;
    descriptors::share(&mut config, role, limit)?;
    if matches!(command, Command::Check) {
        return cli::check(&config).await;
    }
    let shutdown = cli::shutdown_on_signals()?;
    let _flush = log::start(&config.log).map_err(|error| format!("starting the log: {error}"))?;
    let listener = TcpListener::bind(config.bind).await.map_err(|error| {
        format!("listening on BIND={}: {error}: set a free address", config.bind)
    })?;
    log::settings(&config, role);
    Ok(serve(config, role, listener, shutdown).await?)
}
