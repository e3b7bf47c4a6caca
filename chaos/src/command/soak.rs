//! `chaos soak`: runs successive seeds until the time has passed or a run fails.
//!
//! The directory of a run that passed is removed. All other directories are kept.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use tokio::time::Instant;

use super::args::{Driver, RunArgs, milliseconds, profile, way};
use super::directory;
use super::output::{EXIT_ENVIRONMENT, say};
use super::run::run;
use crate::checker::Overall;
use crate::profile::EVENTS_MAX;
use crate::seed::Seed;

/// The flags of `chaos soak`.
#[derive(Clone, Debug, Args)]
pub struct SoakArgs {
    /// Time during which runs may start, such as 30m. The last run is completed.
    #[arg(long, value_name = "TIME", default_value = "30m", value_parser = milliseconds)]
    pub duration: u64,
    /// First seed [default: random].
    #[arg(long, value_name = "SEED")]
    pub from: Option<Seed>,
    /// Number of events per run [default: as the profile sets].
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=i64::from(EVENTS_MAX))
    )]
    pub events: Option<u32>,
    /// Profile: the kinds and numbers of failures and faults; see `chaos list`.
    #[arg(long, value_name = "NAME", default_value = "chaotic", value_parser = profile)]
    pub profile: String,
    /// Directory for the directories of the runs; new or empty [default: target/chaos/UTC-SEED].
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// How to run the workers.
    #[arg(long, value_enum, default_value_t = Driver::Process)]
    pub driver: Driver,
    /// Postgres to use: any, url (in CHAOS_DATABASE_URL), container, machine or downloaded.
    #[arg(long, value_name = "SOURCE", default_value = "any", value_parser = way)]
    pub postgres: String,
}

/// Runs successive seeds and returns the exit code.
pub async fn soak(args: SoakArgs) -> u8 {
    let first = args.from.unwrap_or_else(Seed::fresh);
    let root = match directory::create(args.out.as_deref(), first) {
        Ok(root) => root,
        Err(error) => {
            eprintln!("error: --out: {error}");
            return super::output::EXIT_USAGE;
        }
    };
    let until = Instant::now() + Duration::from_millis(args.duration);
    let mut tally = Tally::default();
    while tally.continues() && (tally.runs == 0 || Instant::now() < until) {
        let seed = first.plus(tally.runs);
        let dir = root.join(seed.to_string());
        let code = run(run_args(&args, seed, dir.clone())).await;
        tally.add(code);
        if code == 0
            && let Err(error) = std::fs::remove_dir_all(&dir)
        {
            eprintln!("error: removing {}: {error}", dir.display());
        }
        let left_s = until.saturating_duration_since(Instant::now()).as_secs();
        eprintln!("soak: {}, {left_s} s left", tally.summary());
    }
    if tally.code() == 0 {
        // `remove_dir` removes only an empty directory.
        let _ = std::fs::remove_dir(&root);
    } else {
        eprintln!("kept: {}", root.display());
    }
    say(&format!("soak={} {} first_seed={first}", tally.word(), tally.summary()));
    tally.code()
}

fn run_args(args: &SoakArgs, seed: Seed, dir: PathBuf) -> RunArgs {
    RunArgs {
        seed: Some(seed),
        events: args.events,
        duration: None,
        profile: args.profile.clone(),
        out: Some(dir),
        driver: args.driver,
        postgres: args.postgres.clone(),
    }
}

/// The number of runs by result, and the exit code of the first failure.
#[derive(Debug, Default)]
struct Tally {
    runs: u64,
    passed: u64,
    unknown: u64,
    failure: Option<u8>,
}

impl Tally {
    fn add(&mut self, code: u8) {
        self.runs += 1;
        match code {
            0 => self.passed += 1,
            code if code == Overall::Unknown.exit_code() => self.unknown += 1,
            code => self.failure = Some(code),
        }
    }

    /// Returns true if no run has failed. An unknown run does not end the soak.
    const fn continues(&self) -> bool {
        self.failure.is_none()
    }

    fn code(&self) -> u8 {
        let without_failure = if self.unknown > 0 { Overall::Unknown } else { Overall::Pass };
        self.failure.unwrap_or(without_failure.exit_code())
    }

    fn word(&self) -> &'static str {
        match (self.failure, self.unknown) {
            (Some(EXIT_ENVIRONMENT), _) => "none",
            (Some(_), _) => "fail",
            (None, 0) => "pass",
            (None, _) => "unknown",
        }
    }

    fn summary(&self) -> String {
        let Self { runs, passed, unknown, .. } = self;
        format!("runs={runs} passed={passed} unknown={unknown}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_ends_a_soak_and_unknown_keeps_it_from_passing() {
        let mut tally = Tally::default();
        tally.add(0);
        assert_eq!((tally.code(), tally.continues()), (0, true));
        tally.add(2);
        assert_eq!((tally.code(), tally.continues(), tally.word()), (2, true, "unknown"));
        tally.add(1);
        assert_eq!((tally.code(), tally.continues(), tally.word()), (1, false, "fail"));
        assert_eq!(tally.summary(), "runs=3 passed=1 unknown=1");
    }
}
