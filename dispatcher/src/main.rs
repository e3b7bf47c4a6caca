//! Environment -> settings -> listener -> serve; nothing else.

mod cli;

use std::process::ExitCode;

use clap::Parser;
use dispatcher::config::Config;
use dispatcher::{Role, check, descriptors, serve, transport};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use crate::cli::{Cli, Command};

fn main() -> ExitCode {
    dispatcher::install_tls_provider();
    let command = Cli::parse().command.unwrap_or(Command::Serve);
    let ended = Runtime::new()
        .map_err(|error| format!("the async runtime cannot be started: {error}"))
        .and_then(|runtime| {
            let ended = runtime.block_on(run(command));
            // A name resolution under way is a thread that nobody can stop, and a silent name server holds it for long.
            runtime.shutdown_background();
            ended
        });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            cli::complain(&error);
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> Result<(), String> {
    let mut config = Config::from_env().map_err(|error| error.to_string())?;
    let limit = descriptors::raise_limit()
        .map_err(|error| format!("the limit of file descriptors cannot be raised: {error}"))?;
    descriptors::share_out(&mut config, limit);
    let role = match command {
        Command::Serve => Role::Serve,
        Command::Api => Role::Api,
        Command::Worker => Role::Worker,
        Command::Migrate => return cli::migrate(&config).await,
        Command::Check => return check::check(&config).await.map(|told| cli::tell(&told)),
        Command::Healthcheck => {
            return transport::healthcheck(config.bind)
                .await
                .map_err(|error| error.to_string());
        }
    };
    cli::start_logging(&config.log);
    let listener = TcpListener::bind(config.bind)
        .await
        .map_err(|error| format!("BIND {} cannot be listened on: {error}", config.bind))?;
    cli::introduce(&config, role);
    let shutdown = cli::shutdown_on_signals().map_err(|error| error.to_string())?;
    serve(config, role, listener, shutdown)
        .await
        .map_err(|error| error.to_string())
}
