//! The subcommands of the command line. Each returns an exit code.
//!
//! A run prints three lines on stdout: the seed, before anything can fail; the command that repeats
//! the run; and the verdict. Progress and errors go to stderr.

mod args;
mod cli;
mod context;
mod directory;
mod list;
mod output;
mod replay;
mod run;
mod sim;
mod soak;
mod stores;
mod unavailable;
mod usage;
mod verify;

pub use args::{Driver, RunArgs};
pub use cli::{Cli, Command};
pub use list::list;
pub use output::{EXIT_ENVIRONMENT, EXIT_OTHER, EXIT_USAGE};
pub use replay::{ReplayArgs, replay, replay_simulation};
pub use run::{prove, run};
pub use sim::{SimArgs, sim};
pub use soak::{SoakArgs, soak};
pub use usage::usage;
pub use verify::{VerifyArgs, verify};
