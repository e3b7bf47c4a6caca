//! Arguments of `cargo bench`: `--save FILE`, which Criterion does not know, and the flags that the
//! parts without Criterion must obey, too.
//!
//! Criterion reads the arguments of the process itself. So the process replaces itself by one
//! without `--save`, and the path goes into a variable.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context;

use crate::table::Table;

/// Path of the file for the table, set by a process for its successor.
const SAVE_VARIABLE: &str = "BENCH_SAVE_FILE";
const SAVE: &str = "--save";

/// Flags of Criterion that are followed by a value.
const WITH_VALUE: [&str; 16] = [
    "-c",
    "--color",
    "-s",
    "--save-baseline",
    "-b",
    "--baseline",
    "--baseline-lenient",
    "--load-baseline",
    "--warm-up-time",
    "--measurement-time",
    "--nresamples",
    "--sample-size",
    "--noise-threshold",
    "--confidence-level",
    "--significance-level",
    "--profile-time",
];

/// The arguments of a benchmark.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Args {
    /// File for the table.
    pub save: Option<PathBuf>,
    /// Each part runs one time with a small load, and its figures mean nothing.
    pub test: bool,
    /// Parts without Criterion run one round.
    pub quick: bool,
    list: bool,
    filters: Vec<String>,
    others: Vec<String>,
}

/// The arguments are incomplete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArgsError {
    /// `--save` is the last argument.
    #[error("--save has no file: write `cargo bench -- --save FILE`")]
    NoFile,
}

impl Args {
    /// Reads the arguments of the process. If they contain `--save`, the process starts again
    /// without it, and this function does not return.
    ///
    /// # Errors
    /// If `--save` has no file, or the process cannot be started again.
    pub fn of_process() -> anyhow::Result<Self> {
        let mut args = Self::parse(std::env::args().skip(1))?;
        if let Some(file) = args.save {
            let program = std::env::current_exe().context("finding the path of this program")?;
            let file = std::path::absolute(file)?;
            let error = Command::new(program).args(args.others).env(SAVE_VARIABLE, file).exec();
            return Err(error).context("starting the benchmark again without --save");
        }
        args.save = std::env::var_os(SAVE_VARIABLE).map(PathBuf::from);
        Ok(args)
    }

    /// Parses arguments without the name of the program.
    ///
    /// # Errors
    /// If `--save` has no file.
    pub fn parse(given: impl IntoIterator<Item = String>) -> Result<Self, ArgsError> {
        let mut args = Self::default();
        let mut bench = false;
        let mut given = given.into_iter();
        while let Some(argument) = given.next() {
            if let Some(file) = argument.strip_prefix("--save=") {
                args.save = Some(PathBuf::from(file));
                continue;
            }
            match argument.as_str() {
                SAVE => {
                    args.save = Some(given.next().ok_or(ArgsError::NoFile)?.into());
                    continue;
                }
                "--bench" => bench = true,
                "--test" => args.test = true,
                "--quick" => args.quick = true,
                "--list" => args.list = true,
                flag if WITH_VALUE.contains(&flag) => {
                    args.others.push(argument);
                    args.others.extend(given.next());
                    continue;
                }
                flag if flag.starts_with('-') => {}
                filter => args.filters.push(filter.to_owned()),
            }
            args.others.push(argument);
        }
        // Criterion, too, only tests if `cargo bench` did not start it.
        args.test |= !bench;
        Ok(args)
    }

    /// Returns true if a part without Criterion is to run: a filter is a part of its name.
    pub fn wants(&self, name: &str) -> bool {
        !self.list
            && (self.filters.is_empty() || self.filters.iter().any(|part| name.contains(part)))
    }

    /// Writes the table to the file of `--save`, if there is one.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, table: &Table) -> anyhow::Result<()> {
        let Some(file) = &self.save else {
            return Ok(());
        };
        std::fs::write(file, table.to_string()).with_context(|| {
            format!("writing {}: name a file in a directory that exists", file.display())
        })
    }

    /// Returns `full`, or `small` for `--test`.
    pub fn load<T>(&self, full: T, small: T) -> T {
        if self.test { small } else { full }
    }

    /// Returns `full`, or 1 for `--test` and `--quick`.
    pub fn rounds(&self, full: usize) -> usize {
        if self.test || self.quick { 1 } else { full }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

    use super::*;

    fn parse(line: &str) -> Result<Args, ArgsError> {
        Args::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn save_is_taken_out_of_the_arguments_for_criterion() {
        for line in ["--bench --save a.md --quick claim", "--save=a.md --bench --quick claim"] {
            let args = parse(line).unwrap();
            assert_eq!(args.save, Some(PathBuf::from("a.md")), "{line}");
            assert_eq!(args.others, ["--bench", "--quick", "claim"], "{line}");
            assert!(args.quick && !args.test, "{line}");
        }
        assert_eq!(parse("--bench --save"), Err(ArgsError::NoFile));
    }

    #[test]
    fn filter_is_a_part_of_the_name_and_no_value_of_a_flag() {
        let args = parse("--bench --sample-size 20 end_to_end").unwrap();
        assert!(args.wants("end_to_end/memory") && !args.wants("backlog"));
        assert_eq!(args.others, ["--bench", "--sample-size", "20", "end_to_end"]);
        assert!(parse("--bench --sample-size 20").unwrap().wants("backlog"));
        assert!(!parse("--bench --list").unwrap().wants("backlog"));
    }

    #[test]
    fn program_that_cargo_bench_did_not_start_only_tests() {
        assert!(parse("").unwrap().test && parse("--bench --test").unwrap().test);
        assert!(!parse("--bench").unwrap().test);
    }
}
