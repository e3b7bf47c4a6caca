//! The commands of the command line. `run`: from arguments to a judged run and its exit code.
//!
//! Standard output carries three kinds of lines only: the first (before anything can fail), the one
//! that repeats the run, and the last. Everything else is told on stderr.

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

/// Exit code when the harness or the machine failed: there is no verdict.
pub const EXIT_ENVIRONMENT: u8 = 4;
/// Exit code when what was repeated is not what it was: another plan, another verdict.
pub const EXIT_OTHER: u8 = 5;
/// Exit code of a command line that cannot be understood.
pub const EXIT_USAGE: u8 = 64;

/// Says a line on standard output. Whoever reads it may have read enough: that is no reason to fail.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
