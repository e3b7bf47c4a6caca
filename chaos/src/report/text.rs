//! Formatting that all parts of the report share.

use std::fmt::Write as _;

/// Appends one line.
pub(super) fn line(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("writing to a string cannot fail");
}

/// Formats microseconds as seconds.
pub(super) fn seconds(us: u64) -> String {
    format!("{}.{:03} s", us / 1_000_000, us / 1_000 % 1_000)
}
