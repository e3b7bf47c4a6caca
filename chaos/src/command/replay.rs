//! `chaos replay`: a stored plan once more, without drawing anything.
//!
//! A plan of the simulation repeats itself to the byte. A plan of real processes gives the same events,
//! scripts and faults, and not the same interleaving.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;

use super::args::{Driver, RunArgs, way};
use super::{EXIT_OTHER, EXIT_USAGE, run, say, sim};
use crate::report::first_line;
use crate::schedule::Schedule;
use crate::sim::SimSchedule;

/// The flags of `chaos replay`.
#[derive(Clone, Debug, Args)]
pub struct ReplayArgs {
    /// The `schedule.json` of a run, or a schedule of the simulation.
    pub file: PathBuf,
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

/// Replays a schedule of the simulation, if the file is one; its runtime is its own.
#[must_use]
pub fn replay_simulation(args: &ReplayArgs) -> Option<u8> {
    let text = std::fs::read_to_string(&args.file).ok()?;
    SimSchedule::from_text(&text).ok()?;
    let file = args.file.clone();
    Some(sim::replay(&sim::ReplayArgs { file }))
}

/// Replays the plan of a run of real processes, from arguments to exit code.
pub async fn replay(args: ReplayArgs) -> u8 {
    let schedule = match load(&args.file) {
        Ok(schedule) => schedule,
        Err(error) => {
            eprintln!("error: {error:#}");
            return EXIT_USAGE;
        }
    };
    let (seed, profile) = (schedule.seed, schedule.profile.name.clone());
    say_first(&schedule);
    let repeat = format!(
        "cargo run -p chaos -- replay {} --driver {} --postgres {}",
        args.file.display(),
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
    if code == super::EXIT_ENVIRONMENT || code == EXIT_USAGE || !differs(&schedule) {
        return code;
    }
    eprintln!("error: seed {seed} and this profile now give another plan than the stored one");
    EXIT_OTHER
}

fn say_first(schedule: &Schedule) {
    let git = super::context::git();
    say(&first_line(schedule.seed, &git, &schedule.profile.name));
}

fn load(file: &Path) -> anyhow::Result<Schedule> {
    let name = || file.display().to_string();
    let text = std::fs::read_to_string(file).with_context(name)?;
    Schedule::from_text(&text).with_context(name)
}

/// True when its seed and profile do not give this plan: it was edited, or drawn by other code.
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
    fn a_plan_reads_back_as_its_seed_gives_it_and_an_edited_one_differs() {
        let schedule = Schedule::generate(Seed::new(3), &Profile::chaotic().with_events(20));
        let mut read = Schedule::from_text(&schedule.to_text()).unwrap();
        assert!(!differs(&read));
        read.events.pop();
        assert!(differs(&read));
    }

    #[test]
    fn a_missing_file_and_a_text_that_is_no_schedule_are_one_line_each() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("schedule.json");
        assert!(load(&path).is_err());
        std::fs::write(&path, "{\"seed\": \"0x1\"}").unwrap();
        let told = format!("{:#}", load(&path).unwrap_err());
        assert!(
            told.contains("no schedule") && !told.contains('\n'),
            "{told}"
        );
    }
}
