//! The subcommands of the command line and their exit codes.

use clap::{Parser, Subcommand};

use super::args::RunArgs;
use super::replay::ReplayArgs;
use super::sim::SimArgs;
use super::soak::SoakArgs;
use super::verify::VerifyArgs;
use crate::up::UpArgs;

/// The exit codes of all subcommands.
const EXIT_CODES: &str = "\
Exit codes:
  0   pass: each checker returned valid
  1   a safety invariant is violated
  2   unknown: the run did not test enough, or the history does not decide
  3   a liveness invariant is violated
  4   the harness or its environment failed; there is no verdict
  5   a repetition differs: another schedule, verdict or simulated history
  64  the command line is not valid, or --out is not empty";

/// Runs a webhook dispatcher under seeded faults and proves that no accepted event is lost.
///
/// Without a subcommand, the flags of `run` apply.
#[derive(Debug, Parser)]
#[command(
    name = "chaos",
    version,
    args_conflicts_with_subcommands = true,
    after_help = EXIT_CODES
)]
pub struct Cli {
    /// The subcommand [default: run].
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The flags of `run`.
    #[command(flatten)]
    pub run: RunArgs,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run one seed: storm, heal, drain, checks, report.
    #[command(after_help = EXIT_CODES)]
    Run(RunArgs),
    /// Start dispatcher, mock receiver and Postgres to try them by hand, without Docker.
    Up(UpArgs),
    /// Simulate many seeds: the real worker on a model of the store, in virtual time.
    Sim(SimArgs),
    /// Run a stored schedule again: one of a run, or one of the simulation.
    Replay(ReplayArgs),
    /// Judge a stored run again from its files and compare with the stored verdict.
    Verify(VerifyArgs),
    /// Run successive seeds until the time has passed or a run fails.
    Soak(SoakArgs),
    /// List profiles, faults, checkers, saboteurs, drivers, and their availability here.
    List,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;
    use clap::CommandFactory as _;

    #[test]
    fn flags_without_a_subcommand_mean_run() {
        Cli::command().debug_assert();
        let cli = Cli::try_parse_from(["chaos", "--seed", "0x5eed", "--events", "500"]);
        let cli = cli.expect("these are flags of run");
        assert_eq!(cli.run.seed, Some(Seed::new(0x5eed)));
        assert!(cli.command.is_none());
    }

    #[test]
    fn shorter_storm_has_and_requires_fewer_kills() {
        let cli = Cli::try_parse_from(["chaos", "--duration", "5s"]).expect("flags of run");
        let profile = cli.run.resolved_profile();
        assert_eq!((profile.kills, profile.kills_required), (2, 2));
        let cli = Cli::try_parse_from(["chaos", "--events", "500"]).expect("flags of run");
        let profile = cli.run.resolved_profile();
        assert_eq!((profile.events, profile.kills, profile.kills_required), (500, 10, 5));
    }
}
