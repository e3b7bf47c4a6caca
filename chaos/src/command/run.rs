//! `chaos run`: one run from arguments to exit code.

use std::path::Path;

use anyhow::Context as _;

use super::args::{Driver, RunArgs};
use super::output::{EXIT_ENVIRONMENT, EXIT_USAGE, say};
use super::stores::Stores;
use super::unavailable::unavailable;
use super::{context, directory};
use crate::environment::RunEnvironment;
use crate::history::op::Section;
use crate::nemesis::Schedule;
use crate::report::{Context, Judged, first_line};
use crate::runner;
use crate::seed::Seed;
use crate::system::{AnySystem, ProcessSystem, System};

/// Runs the schedule of a seed and returns the exit code.
pub async fn run(args: RunArgs) -> u8 {
    let seed = args.seed.unwrap_or_else(Seed::fresh);
    let profile = args.resolved_profile();
    say(&first_line(seed, &context::git(), &profile.name));
    let schedule = Schedule::generate(seed, &profile);
    of_schedule(&args, &schedule, &args.repeat(seed, &profile)).await
}

/// Runs a schedule and returns the exit code. `repeat` is the command that repeats the run.
pub(super) async fn of_schedule(args: &RunArgs, schedule: &Schedule, repeat: &str) -> u8 {
    let seed = schedule.seed;
    let dir = match directory::create(args.out.as_deref(), seed) {
        Ok(dir) => dir,
        Err(error) => {
            eprintln!("error: --out: {error}");
            return EXIT_USAGE;
        }
    };
    eprintln!("files: {}", dir.display());
    let about = Context {
        git: context::git(),
        argv: std::env::args().collect(),
        repeat: repeat.to_owned(),
        host: context::host(),
        ..Context::default()
    };
    let judged = tokio::select! {
        biased;
        judged = prepare_and_prove(args, schedule, &dir, about) => judged,
        _ = tokio::signal::ctrl_c() => {
            Err(anyhow::anyhow!("interrupted; the files in {} are kept", dir.display()))
        }
    };
    match judged {
        Ok(judged) => {
            eprint!("{}", judged.checks_text());
            eprintln!("proof: {}", dir.join("delivery-proof.log").display());
            say(&format!("repeat: {repeat}"));
            say(&judged.last_line());
            judged.overall.exit_code()
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            say(&format!("repeat: {repeat}"));
            say(&format!(
                "verdict=none seed={seed} accepted=- delivered=- dead=- lost=- duplicates=-"
            ));
            EXIT_ENVIRONMENT
        }
    }
}

async fn prepare_and_prove(
    args: &RunArgs,
    schedule: &Schedule,
    dir: &Path,
    mut about: Context,
) -> anyhow::Result<Judged> {
    let mut system = system(args.driver).await?;
    eprintln!("starting Postgres");
    let stores = Stores::obtain(args, schedule).await?;
    about.postgres = stores.origin();
    about.system = system.describe();
    about.unavailable = unavailable(&args.wanted()).await;
    eprintln!("postgres: {}\nsystem: {}", about.postgres, about.system);
    if args.driver == Driver::Process {
        about.skipped.push("SIGKILL of a worker container: this run uses processes".to_owned());
    }
    about.durability = context::durability(&stores.databases[&Section::Main])
        .await
        .context("reading the durability settings of Postgres")?;
    let Stores { databases, server, shared: _shared } = stores;
    let environment = RunEnvironment { dir: dir.to_owned(), databases, server };
    prove(&mut system, schedule, environment, about).await
}

/// Runs the schedule on a system, judges the history, and writes the files of the run.
///
/// # Errors
/// Returns an error if system or machine fail. The directory then contains the history until the
/// failure.
pub async fn prove<S: System>(
    system: &mut S,
    schedule: &Schedule,
    mut environment: RunEnvironment,
    mut about: Context,
) -> anyhow::Result<Judged> {
    std::fs::write(environment.dir.join("schedule.json"), schedule.to_text())
        .context("writing the schedule")?;
    let result = runner::run(system, schedule, &mut environment).await?;
    about.audit_missing = result.audit_missing;
    eprintln!("judging {} lines", result.history.entries().len());
    let judged = Judged::new(schedule.clone(), result.history);
    judged.write(&environment.dir, &about).context("writing the report")?;
    Ok(judged)
}

async fn system(driver: Driver) -> anyhow::Result<AnySystem> {
    let binary = crate::binary::dispatcher_binary()?;
    match driver {
        Driver::Process => Ok(AnySystem::Process(ProcessSystem::new(binary))),
        #[cfg(feature = "docker")]
        Driver::Container => {
            let system = crate::system::ContainerSystem::new(binary);
            Ok(AnySystem::Container(system.await?))
        }
        #[cfg(not(feature = "docker"))]
        Driver::Container => anyhow::bail!(
            "this build has no container driver: build `chaos` with the feature docker"
        ),
    }
}
