//! `chaos replay`: runs a stored schedule again and draws nothing.
//!
//! A schedule of the simulation gives a byte-identical history. A schedule of real processes gives
//! the same events, scripts and faults, but not the same interleaving.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;

use super::args::{Driver, RunArgs, way};
use super::output::{EXIT_OTHER, EXIT_USAGE, say};
use super::{run, sim};
use crate::nemesis::Schedule;
use crate::report::first_line;
use crate::sim::SimSchedule;

/// The file of a run directory that holds its schedule.
const SCHEDULE_FILE: &str = "schedule.json";

/// The flags of `chaos replay`.
#[derive(Clone, Debug, Args)]
pub struct ReplayArgs {
    /// The directory of a run, its schedule.json, or a schedule of the simulation.
    pub path: PathBuf,
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

impl ReplayArgs {
    /// The schedule file. A directory stands for the schedule in it.
    fn file(&self) -> PathBuf {
        if self.path.is_dir() { self.path.join(SCHEDULE_FILE) } else { self.path.clone() }
    }
}

/// Replays a schedule of the simulation and returns the exit code; `None` if the file is not one.
///
/// The caller must not hold a runtime, because each simulated run starts one with virtual time.
#[must_use]
pub fn replay_simulation(args: &ReplayArgs) -> Option<u8> {
    let text = std::fs::read_to_string(args.file()).ok()?;
    let schedule = SimSchedule::from_text(&text).ok()?;
    Some(sim::show(&Arc::new(schedule)))
}

/// Replays the schedule of a run of real processes and returns the exit code.
pub async fn replay(args: ReplayArgs) -> u8 {
    let file = args.file();
    let schedule = match load(&file) {
        Ok(schedule) => schedule,
        Err(error) => {
            eprintln!("error: {error:#}");
            return EXIT_USAGE;
        }
    };
    let (seed, profile) = (schedule.seed, schedule.profile.name.clone());
    say(&first_line(seed, &super::context::git(), &profile));
    let repeat = format!(
        "cargo run -p chaos -- replay {} --driver {} --postgres {}",
        file.display(),
        args.driver.word(),
        args.postgres
    );
    let run_args = RunArgs {
        seed: Some(seed),
        events: None,
        duration: None,
        profile,
        out: args.out,
        driver: args.driver,
        postgres: args.postgres,
    };
    let code = run::of_schedule(&run_args, &schedule, &repeat).await;
    if code == super::output::EXIT_ENVIRONMENT || code == EXIT_USAGE || !differs(&schedule) {
        return code;
    }
    eprintln!(
        "error: seed {seed} and this profile now give another schedule than the stored one: it was \
         edited, or other code drew it"
    );
    EXIT_OTHER
}

fn load(file: &Path) -> anyhow::Result<Schedule> {
    let text = std::fs::read_to_string(file).with_context(|| {
        let file = file.display();
        format!("reading {file}: give the directory of a run, or its {SCHEDULE_FILE}")
    })?;
    Schedule::from_text(&text).with_context(|| file.display().to_string())
}

/// Returns true if the seed and the profile of a schedule now give another schedule.
fn differs(schedule: &Schedule) -> bool {
    Schedule::generate(schedule.seed, &schedule.profile) != *schedule
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::profile::Profile;
    use crate::seed::Seed;

    #[test]
    fn only_an_edited_schedule_differs_from_its_seed() {
        let schedule = Schedule::generate(Seed::new(3), &Profile::chaotic().with_events(20));
        let mut read = Schedule::from_text(&schedule.to_text()).unwrap();
        assert!(!differs(&read));
        read.events.pop();
        assert!(differs(&read));
    }

    #[test]
    fn text_that_is_not_a_schedule_gives_one_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(SCHEDULE_FILE);
        std::fs::write(&path, "{\"seed\": \"0x1\"}").unwrap();
        let error = format!("{:#}", load(&path).unwrap_err());
        assert!(error.starts_with(&path.display().to_string()), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
}
