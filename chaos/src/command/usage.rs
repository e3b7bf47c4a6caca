//! A command line that cannot be understood, told in one line: what is wrong with it, and where the right
//! words are.

use clap::{CommandFactory as _, Error};

use super::Cli;

/// One line for an error of the parser; `given` is the first argument, which may name a command.
#[must_use]
pub fn usage(error: &Error, given: Option<&str>) -> String {
    let text = error.render().to_string();
    let joined = |lines: &mut dyn Iterator<Item = &str>| {
        let words: Vec<&str> = lines.flat_map(str::split_whitespace).collect();
        words.join(" ")
    };
    // The parser's first paragraph says what is wrong, the next may hold a tip; the rest is how to ask.
    let what = joined(&mut text.lines().take_while(|line| !line.trim().is_empty()));
    let tips = text.lines().map(str::trim);
    let tip = joined(&mut tips.filter(|line| line.starts_with("tip:")));
    let tip = if tip.is_empty() {
        tip
    } else {
        format!("; {tip}")
    };
    let cli = Cli::command();
    let command = given.and_then(|name| cli.find_subcommand(name));
    let command = command.map_or(String::new(), |command| format!(" {}", command.get_name()));
    format!("{what}{tip}; see `chaos{command} --help`")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    fn told(args: &[&str]) -> String {
        let all = std::iter::once(&"chaos").chain(args);
        let error = Cli::try_parse_from(all).expect_err("it cannot be understood");
        usage(&error, args.first().copied())
    }

    #[test]
    fn what_is_wrong_and_where_to_look_are_in_one_line() {
        let cases: &[(&[&str], &str, &str)] = &[
            (&["sim", "--seeds", "x"], "'x'", "`chaos sim --help`"),
            (&["sim", "--seeds", "0"], "'0'", "`chaos sim --help`"),
            (&["sim", "--sedes", "1"], "'--seeds'", "`chaos sim --help`"),
            (&["--profile", "nope"], "calm, chaotic", "`chaos --help`"),
            (
                &["run", "--seed", "0xg"],
                "decimal or 0x",
                "`chaos run --help`",
            ),
            (
                &["run", "--driver", "cow"],
                "process, container",
                "`chaos run --help`",
            ),
            (&["verify"], "<DIR>", "`chaos verify --help`"),
            (&["verfy"], "'verify'", "`chaos --help`"),
        ];
        for (args, what, place) in cases {
            let line = told(args);
            assert!(
                line.starts_with("error: ") && !line.contains('\n'),
                "{line}"
            );
            assert!(line.contains(what) && line.ends_with(place), "{line}");
        }
    }
}
