//! The command line of the harness: parses the arguments and returns the exit code.

use std::process::ExitCode;

use chaos::command::{self, Cli, Command};
use clap::Parser as _;
use clap::error::ErrorKind;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            if let ErrorKind::DisplayHelp | ErrorKind::DisplayVersion = error.kind() {
                // A reader that closes the pipe must not change the exit code.
                let _ = error.print();
                return ExitCode::SUCCESS;
            }
            let first_argument = std::env::args().nth(1);
            eprintln!("{}", command::usage(&error, first_argument.as_deref()));
            return ExitCode::from(command::EXIT_USAGE);
        }
    };
    // Each simulated run starts a runtime with virtual time, so the main runtime must not exist
    // yet.
    match &cli.command {
        Some(Command::Sim(args)) => return ExitCode::from(command::sim(args)),
        Some(Command::Replay(args)) => {
            if let Some(code) = command::replay_simulation(args) {
                return ExitCode::from(code);
            }
        }
        Some(Command::Verify(args)) => return ExitCode::from(command::verify(args)),
        _ => {}
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: starting the runtime: {error}");
            return ExitCode::from(command::EXIT_ENVIRONMENT);
        }
    };
    ExitCode::from(runtime.block_on(dispatch(cli)))
}

async fn dispatch(cli: Cli) -> u8 {
    match cli.command {
        None => command::run(cli.run).await,
        Some(Command::Run(args)) => command::run(args).await,
        // `main` has run these already.
        Some(Command::Sim(_) | Command::Verify(_)) => command::EXIT_USAGE,
        Some(Command::Replay(args)) => command::replay(args).await,
        Some(Command::Soak(args)) => command::soak(args).await,
        Some(Command::List) => command::list().await,
        Some(Command::Up(args)) => match chaos::up::up(args).await {
            Ok(()) => 0,
            Err(error) => {
                eprintln!("error: {error:#}");
                command::EXIT_ENVIRONMENT
            }
        },
    }
}
