//! Output of the subcommands: exit codes and lines on stdout.

use std::io::Write as _;

/// Exit code if the harness or its environment failed. The run has no verdict then.
pub const EXIT_ENVIRONMENT: u8 = 4;
/// Exit code if a repetition differs: another schedule or another verdict than the stored one.
pub const EXIT_OTHER: u8 = 5;
/// Exit code of a command line that is not valid.
pub const EXIT_USAGE: u8 = 64;

/// Prints a line on stdout. A reader that has closed the pipe is not an error.
pub(super) fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
