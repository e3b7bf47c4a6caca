//! The error line for a command line that is not valid: the mistake, a tip and the help command.

use clap::{CommandFactory as _, Error};

use super::cli::Cli;

/// Returns one line for an error of the parser. `first_argument` may name a subcommand.
pub fn usage(error: &Error, first_argument: Option<&str>) -> String {
    let text = error.render().to_string();
    let joined = |lines: &mut dyn Iterator<Item = &str>| {
        let words: Vec<&str> = lines.flat_map(str::split_whitespace).collect();
        words.join(" ")
    };
    // The first paragraph of the parser's text names the mistake. A later line may hold a tip.
    let mistake = joined(&mut text.lines().take_while(|line| !line.trim().is_empty()));
    let tips = text.lines().map(str::trim);
    let tip = joined(&mut tips.filter(|line| line.starts_with("tip:")));
    let tip = if tip.is_empty() { tip } else { format!("; {tip}") };
    let cli = Cli::command();
    let command = first_argument.and_then(|name| cli.find_subcommand(name));
    let command = command.map_or(String::new(), |command| format!(" {}", command.get_name()));
    format!("{mistake}{tip}; see `chaos{command} --help`")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    fn error_line(args: &[&str]) -> String {
        let all = std::iter::once(&"chaos").chain(args);
        let error = Cli::try_parse_from(all).expect_err("the arguments are not valid");
        usage(&error, args.first().copied())
    }

    #[test]
    fn error_line_names_the_mistake_and_the_help() {
        let cases: &[(&[&str], &str, &str)] = &[
            (&["sim", "--seeds", "x"], "'x'", "`chaos sim --help`"),
            (&["sim", "--seeds", "0"], "'0'", "`chaos sim --help`"),
            (&["sim", "--sedes", "1"], "'--seeds'", "`chaos sim --help`"),
            (&["--profile", "nope"], "calm, chaotic", "`chaos --help`"),
            (&["run", "--seed", "0xg"], "decimal or 0x", "`chaos run --help`"),
            (&["run", "--driver", "cow"], "process, container", "`chaos run --help`"),
            (&["verify"], "<DIR>", "`chaos verify --help`"),
            (&["verfy"], "'verify'", "`chaos --help`"),
        ];
        for (args, mistake, help) in cases {
            let line = error_line(args);
            assert!(line.starts_with("error: ") && !line.contains('\n'), "{line}");
            assert!(line.contains(mistake) && line.ends_with(help), "{line}");
        }
    }
}
