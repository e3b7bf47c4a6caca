//! The command line: subcommands, flags and their limits.

use std::path::PathBuf;
use std::str::FromStr as _;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::postgres::Wanted;
use crate::profile::{EVENTS_MAX, PROFILES, Profile, STORM_MS_MAX, STORM_MS_MIN};
use crate::seed::Seed;
use crate::up::UpArgs;

/// Minimum duration of the storm per event, in milliseconds, if no duration is given.
const STORM_MS_PER_EVENT: u64 = 10;

/// The exit codes of all subcommands.
const EXIT_CODES: &str = "\
Exit codes:
  0   pass: each checker says valid
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
    Sim(super::SimArgs),
    /// Run a stored schedule again: one of a run, or one of the simulation.
    Replay(super::ReplayArgs),
    /// Judge a stored run again from its files and compare with the stored verdict.
    Verify(super::VerifyArgs),
    /// Run successive seeds until the time has passed or a run fails.
    Soak(super::SoakArgs),
    /// List profiles, faults, checkers, saboteurs, drivers, and their availability here.
    List,
}

/// How to run a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Driver {
    /// A child process.
    Process,
    /// A container with an image of the dispatcher.
    Container,
}

impl Driver {
    /// Returns the value of the flag `--driver`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Container => "container",
        }
    }
}

/// The flags of a run.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// Seed of the schedule, decimal or 0x… [default: random].
    #[arg(long, value_name = "SEED")]
    pub seed: Option<Seed>,
    /// Number of events to post [default: 300, or as the profile sets].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(EVENTS_MAX)))]
    pub events: Option<u32>,
    /// Duration of the storm, such as 30s, 2m or 1500ms [default: 25s, or as the profile sets].
    #[arg(long, value_name = "TIME", value_parser = milliseconds)]
    pub duration: Option<u64>,
    /// Profile: the kinds and numbers of failures and faults; see `chaos list`.
    #[arg(long, value_name = "NAME", default_value = "chaotic", value_parser = profile)]
    pub profile: String,
    /// Directory for the files of the run; new or empty [default: target/chaos/UTC-SEED].
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// How to run the workers.
    #[arg(long, value_enum, default_value_t = Driver::Process)]
    pub driver: Driver,
    /// Postgres to use: any, url (in CHAOS_DATABASE_URL), container, machine or downloaded.
    #[arg(long, value_name = "SOURCE", default_value = "any", value_parser = way)]
    pub postgres: String,
}

impl RunArgs {
    /// Returns the profile with the values of the flags.
    pub fn resolved_profile(&self) -> Profile {
        let profile = Profile::named(&self.profile).expect("the parser has accepted the name");
        let events = self.events.unwrap_or(profile.events);
        let storm_ms = profile.storm_ms.max(u64::from(events) * STORM_MS_PER_EVENT);
        profile
            .with_events(events)
            .with_storm_ms(self.duration.unwrap_or(storm_ms))
    }

    /// Returns the requested Postgres.
    pub fn wanted(&self) -> Wanted {
        // The parser has refused `url` if the variable is not set.
        Wanted::from_str(&self.postgres).unwrap_or(Wanted::Any)
    }

    /// Returns the command that repeats a run of `seed`.
    pub fn repeat(&self, seed: Seed, profile: &Profile) -> String {
        format!(
            "cargo run -p chaos -- run --seed {seed} --events {} --duration {}ms --profile {} \
             --driver {} --postgres {}",
            profile.events,
            profile.storm_ms,
            profile.name,
            self.driver.word(),
            self.postgres,
        )
    }
}

pub(super) fn profile(name: &str) -> Result<String, String> {
    if Profile::named(name).is_some() {
        return Ok(name.to_owned());
    }
    let names: Vec<&str> = PROFILES.iter().map(|(name, _)| *name).collect();
    Err(format!(
        "there is no such profile; use one of {}",
        names.join(", ")
    ))
}

pub(super) fn way(text: &str) -> Result<String, String> {
    Wanted::from_str(text)
        .map(|_| text.to_owned())
        .map_err(|error| error.to_string())
}

pub(super) fn milliseconds(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits
        .parse()
        .map_err(|_| "not a duration such as 30s, 2m or 1500ms")?;
    let unit = match &text[digits.len()..] {
        "ms" => 1,
        "s" | "" => 1_000,
        "m" => 60_000,
        other => return Err(format!("unknown unit {other:?}: use ms, s or m")),
    };
    let ms = number.saturating_mul(unit);
    if (STORM_MS_MIN..=STORM_MS_MAX).contains(&ms) {
        return Ok(ms);
    }
    Err(format!(
        "must be between {STORM_MS_MIN} ms and {} minutes",
        STORM_MS_MAX / 60_000
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
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
    fn durations_have_units_and_limits() {
        assert_eq!(milliseconds("30s"), Ok(30_000));
        assert_eq!(milliseconds("2m"), Ok(120_000));
        assert_eq!(milliseconds("1500ms"), Ok(1_500));
        for text in ["", "s", "1h", "0s", "2000m", "99999999999999999999s", "é"] {
            assert!(milliseconds(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn shorter_storm_has_and_requires_fewer_kills() {
        let cli = Cli::try_parse_from(["chaos", "--duration", "5s"]).expect("flags of run");
        let profile = cli.run.resolved_profile();
        assert_eq!((profile.kills, profile.kills_required), (2, 2));
        let cli = Cli::try_parse_from(["chaos", "--events", "500"]).expect("flags of run");
        let profile = cli.run.resolved_profile();
        assert_eq!(
            (profile.events, profile.kills, profile.kills_required),
            (500, 10, 5)
        );
    }
}
