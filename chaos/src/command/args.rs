//! The flags of `chaos run` and the parsers of values that several subcommands share.

use std::path::PathBuf;
use std::str::FromStr as _;

use clap::{Args, ValueEnum};

use crate::postgres::Wanted;
use crate::profile::named::PROFILES;
use crate::profile::{EVENTS_MAX, Profile, STORM_MS_MAX, STORM_MS_MIN};
use crate::seed::Seed;

/// Minimum duration of the storm per event, in milliseconds, if no duration is given.
const STORM_MS_PER_EVENT: u64 = 10;

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
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=i64::from(EVENTS_MAX))
    )]
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
        profile.with_events(events).with_storm_ms(self.duration.unwrap_or(storm_ms))
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
    Err(format!("there is no such profile; use one of {}", names.join(", ")))
}

pub(super) fn way(text: &str) -> Result<String, String> {
    Wanted::from_str(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

pub(super) fn milliseconds(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| "not a duration such as 30s, 2m or 1500ms")?;
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
    Err(format!("must be between {STORM_MS_MIN} ms and {} minutes", STORM_MS_MAX / 60_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units_and_limits() {
        assert_eq!(milliseconds("30s"), Ok(30_000));
        assert_eq!(milliseconds("2m"), Ok(120_000));
        assert_eq!(milliseconds("1500ms"), Ok(1_500));
        for text in ["", "s", "1h", "0s", "2000m", "99999999999999999999s", "é"] {
            assert!(milliseconds(text).is_err(), "{text:?}");
        }
    }
}
