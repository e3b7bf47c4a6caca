//! The subcommands of the command line. Each returns an exit code.
//!
//! A run prints three lines on stdout: the seed, before anything can fail; the command that repeats
//! the run; and the verdict. Progress and errors go to stderr.

mod args;
mod context;
mod directory;
mod list;
mod replay;
mod run;
mod sim;
mod soak;
mod stores;
mod unavailable;
mod usage;
mod verify;

use std::io::Write as _;

pub use args::{Cli, Command, Driver, RunArgs};
pub use list::list;
pub use replay::{ReplayArgs, replay, replay_simulation};
pub use run::{prove, run};
pub use sim::{SimArgs, sim};
pub use soak::{SoakArgs, soak};
pub use usage::usage;
pub use verify::{VerifyArgs, verify};

/// Exit code if the harness or its environment failed. The run has no verdict then.
pub const EXIT_ENVIRONMENT: u8 = 4;
/// Exit code if a repetition differs: another schedule or another verdict than the stored one.
pub const EXIT_OTHER: u8 = 5;
/// Exit code of a command line that is not valid.
pub const EXIT_USAGE: u8 = 64;

/// Prints a line on stdout. A reader that has closed the pipe is not an error.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
