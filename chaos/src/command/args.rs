//! The command line.

use std::path::PathBuf;
use std::str::FromStr as _;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::postgres::Wanted;
use crate::profile::{EVENTS_MAX, PROFILES, Profile, STORM_MS_MAX, STORM_MS_MIN};
use crate::seed::Seed;
use crate::up::UpArgs;

/// Milliseconds of storm per event at least, when no duration is given.
const STORM_MS_PER_EVENT: u64 = 10;

/// Runs a webhook dispatcher under seeded faults and proves that no accepted event is lost.
///
/// Without a command, the flags are those of `run`. Exit codes: 0 pass, 1 safety violated, 2 unknown,
/// 3 liveness violated, 4 harness or environment failure, 5 another plan or verdict than the stored one,
/// 64 usage.
#[derive(Debug, Parser)]
#[command(name = "chaos", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to do; `run` when absent.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The flags of `run`.
    #[command(flatten)]
    pub run: RunArgs,
}

/// What the harness can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// One run: storm, heal, drain, checks, report.
    Run(RunArgs),
    /// The whole system for a person to try, without Docker: dispatcher on 8000, receiver on 8080.
    Up(UpArgs),
    /// Many seeds of the simulation: the real worker over a model store, in virtual time.
    Sim(super::SimArgs),
    /// A stored schedule once more: a run's `schedule.json`, or one of the simulation.
    Replay(super::ReplayArgs),
    /// The checkers once more, from the stored files of a run alone.
    Verify(super::VerifyArgs),
    /// Runs of successive seeds until time is up or one fails.
    Soak(super::SoakArgs),
    /// Profiles, faults, checkers, saboteurs, drivers, and what this machine has of them.
    List,
}

/// How a worker is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Driver {
    /// A child process.
    Process,
    /// A container of the dispatcher's own image.
    Container,
}

impl Driver {
    /// As the flag is written.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Driver::Process => "process",
            Driver::Container => "container",
        }
    }
}

/// The flags of a run.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// What everything is drawn from, decimal or 0x…; a fresh one when absent.
    #[arg(long, value_name = "SEED")]
    pub seed: Option<Seed>,
    /// How many events are posted [default: by profile, 300].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(EVENTS_MAX)))]
    pub events: Option<u32>,
    /// How long events are posted and faults applied, such as 30s, 2m or 1500ms [default: by profile, 25s].
    #[arg(long, value_name = "TIME", value_parser = milliseconds)]
    pub duration: Option<u64>,
    /// How much goes wrong; `chaos list` names the profiles.
    #[arg(long, value_name = "NAME", default_value = "chaotic", value_parser = profile)]
    pub profile: String,
    /// Where the run's files go; must not exist or be empty [default: target/chaos/UTC-SEED].
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// How the workers are run.
    #[arg(long, value_enum, default_value_t = Driver::Process)]
    pub driver: Driver,
    /// Which Postgres: any, url (in CHAOS_DATABASE_URL), container, machine or downloaded.
    #[arg(long, value_name = "WAY", default_value = "any", value_parser = way)]
    pub postgres: String,
}

impl RunArgs {
    /// The profile with what the flags change in it.
    #[must_use]
    pub fn resolved_profile(&self) -> Profile {
        let profile = Profile::named(&self.profile).expect("the parser let it through");
        let events = self.events.unwrap_or(profile.events);
        let storm_ms = profile.storm_ms.max(u64::from(events) * STORM_MS_PER_EVENT);
        profile
            .with_events(events)
            .with_storm_ms(self.duration.unwrap_or(storm_ms))
    }

    /// The Postgres that is wanted.
    #[must_use]
    pub fn wanted(&self) -> Wanted {
        // `url` fails here only when the variable is not set, which `way` has refused.
        Wanted::from_str(&self.postgres).unwrap_or(Wanted::Any)
    }

    /// The command that repeats a run of `seed`.
    #[must_use]
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
        "there is no such profile; there are {}",
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
        .map_err(|_| "not a time such as 30s, 2m or 1500ms")?;
    let unit = match &text[digits.len()..] {
        "ms" => 1,
        "s" | "" => 1_000,
        "m" => 60_000,
        other => return Err(format!("unknown unit {other:?}: ms, s or m")),
    };
    let ms = number.saturating_mul(unit);
    if (STORM_MS_MIN..=STORM_MS_MAX).contains(&ms) {
        return Ok(ms);
    }
    Err(format!(
        "between {STORM_MS_MIN} ms and {} minutes",
        STORM_MS_MAX / 60_000
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_well_formed_and_bare_flags_mean_run() {
        Cli::command().debug_assert();
        let cli = Cli::try_parse_from(["chaos", "--seed", "0x5eed", "--events", "500"]);
        let cli = cli.expect("these are flags of run");
        assert_eq!(cli.run.seed, Some(Seed::new(0x5eed)));
        assert!(cli.command.is_none());
    }

    #[test]
    fn times_have_units_and_limits() {
        assert_eq!(milliseconds("30s"), Ok(30_000));
        assert_eq!(milliseconds("2m"), Ok(120_000));
        assert_eq!(milliseconds("1500ms"), Ok(1_500));
        for text in ["", "s", "1h", "0s", "2000m", "99999999999999999999s", "é"] {
            assert!(milliseconds(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_shorter_storm_has_fewer_kills_and_asks_for_fewer() {
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
