//! Output on the terminal: each line starts with the colored name of its process.

use std::io::{IsTerminal, Write};

/// Width of the names, so that all lines are aligned.
const NAME_COLUMNS: usize = 10;

/// Prints lines of the harness.
pub(super) fn say(text: &str) {
    for line in text.lines() {
        print_line("chaos", line);
    }
}

/// Prints `text` unchanged, for lines that a user copies.
pub(super) fn show(text: &str) {
    // As in `print_line`.
    let _printed = writeln!(std::io::stdout().lock(), "{text}");
}

/// Prints one complete line of the process `name`. Lines of several processes do not mix.
pub(super) fn print_line(name: &str, line: &str) {
    let mut out = std::io::stdout().lock();
    let colored = is_colored();
    // A closed terminal must not prevent that the processes are stopped in order.
    let _printed = writeln!(out, "{}{line}", prefix(name, colored));
}

/// Returns true if stdout is a terminal and `NO_COLOR` is not set.
pub(super) fn is_colored() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

fn prefix(name: &str, colored: bool) -> String {
    let column = format!("{name:<NAME_COLUMNS$} | ");
    let color = match name {
        "dispatcher" => 36,
        "receiver" => 35,
        _ => 33,
    };
    if colored { format!("\u{1b}[{color}m{column}\u{1b}[0m") } else { column }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_aligned_and_colored_only_if_requested() {
        assert_eq!(prefix("chaos", false), "chaos      | ");
        assert_eq!(prefix("dispatcher", false), "dispatcher | ");
        assert_eq!(prefix("receiver", true), "\u{1b}[35mreceiver   | \u{1b}[0m");
    }
}
