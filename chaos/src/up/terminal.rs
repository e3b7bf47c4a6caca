//! What a person sees: a coloured name before each line, where the terminal has colours.

use std::io::{IsTerminal, Write};

/// Width of the names, so that the lines of all parts begin in one column.
const NAME_COLUMNS: usize = 10;

/// Prints what the harness itself has to say.
pub(super) fn say(text: &str) {
    for line in text.lines() {
        print_line("chaos", line);
    }
}

/// Prints `text` as it is, for lines that are copied from the terminal.
pub(super) fn show(text: &str) {
    // As in `print_line`.
    let _printed = writeln!(std::io::stdout().lock(), "{text}");
}

/// Prints a line of the part `name`, whole: lines of several parts never mix.
pub(super) fn print_line(name: &str, line: &str) {
    let mut out = std::io::stdout().lock();
    let coloured = is_coloured();
    // A terminal that is gone must not keep the parts from being ended in order.
    let _printed = writeln!(out, "{}{line}", prefix(name, coloured));
}

/// Whether colours are shown: on a terminal, unless the person wants none.
pub(super) fn is_coloured() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

fn prefix(name: &str, coloured: bool) -> String {
    let column = format!("{name:<NAME_COLUMNS$} | ");
    let colour = match name {
        "dispatcher" => 36,
        "receiver" => 35,
        _ => 33,
    };
    if coloured {
        format!("\u{1b}[{colour}m{column}\u{1b}[0m")
    } else {
        column
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_share_a_column_and_colours_come_only_when_asked() {
        assert_eq!(prefix("chaos", false), "chaos      | ");
        assert_eq!(prefix("dispatcher", false), "dispatcher | ");
        assert_eq!(prefix("receiver", true), "\u{1b}[35mreceiver   | \u{1b}[0m");
    }
}
