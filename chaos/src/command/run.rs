//! `chaos run`.

use std::path::Path;

use anyhow::Context as _;

use super::args::{Driver, RunArgs};
use super::stores::Stores;
use super::unavailable::unavailable;
use super::{EXIT_ENVIRONMENT, EXIT_USAGE, context, directory, say};
use crate::history::op::Section;
use crate::report::{Context, Judged, first_line};
use crate::runner::{self, Site};
use crate::schedule::Schedule;
use crate::seed::Seed;
use crate::system::{AnySystem, ProcessSystem, System};

/// One run from arguments to exit code.
pub async fn run(args: RunArgs) -> u8 {
    let seed = args.seed.unwrap_or_else(Seed::fresh);
    let profile = args.resolved_profile();
    say(&first_line(seed, &context::git(), &profile.name));
    let schedule = Schedule::generate(seed, &profile);
    of_schedule(&args, &schedule, &args.repeat(seed, &profile)).await
}

/// One run of a plan; `repeat` is the command that repeats it.
pub(super) async fn of_schedule(args: &RunArgs, schedule: &Schedule, repeat: &str) -> u8 {
    let seed = schedule.seed;
    let dir = match directory::create(args.out.as_deref(), seed) {
        Ok(dir) => dir,
        Err(error) => {
            eprintln!("error: --out: {error}");
            return EXIT_USAGE;
        }
    };
    eprintln!("writing to {}", dir.display());
    let about = Context {
        git: context::git(),
        argv: std::env::args().collect(),
        repeat: repeat.to_owned(),
        host: context::host(),
        ..Context::default()
    };
    let ran = tokio::select! {
        biased;
        ran = whole(args, schedule, &dir, about) => ran,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted; the files are kept")),
    };
    match ran {
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

async fn whole(
    args: &RunArgs,
    schedule: &Schedule,
    dir: &Path,
    mut about: Context,
) -> anyhow::Result<Judged> {
    let mut system = system(args.driver).await?;
    let stores = Stores::obtain(args, schedule).await?;
    about.postgres = stores.origin();
    about.system = system.describe();
    about.unavailable = unavailable(&args.wanted()).await;
    eprintln!("postgres: {}\nsystem: {}", about.postgres, about.system);
    if args.driver == Driver::Process {
        about
            .skipped
            .push("SIGKILL of a worker container: this run uses processes".to_owned());
    }
    about.durability = context::durability(&stores.databases[&Section::Main])
        .await
        .context("asking Postgres for its durability settings")?;
    let Stores {
        databases,
        own_server,
        shared: _shared,
    } = stores;
    let site = Site {
        dir: dir.to_owned(),
        databases,
        own_server,
    };
    prove(&mut system, schedule, site, &about).await
}

/// Runs the schedule on a system, judges what was seen, and writes the files of the run into its directory.
///
/// # Errors
/// When system or machine fail the harness; what was seen until then is in the directory.
pub async fn prove<S: System>(
    system: &mut S,
    schedule: &Schedule,
    mut site: Site,
    about: &Context,
) -> anyhow::Result<Judged> {
    std::fs::write(site.dir.join("schedule.json"), schedule.to_text())
        .context("writing the schedule")?;
    let history = runner::run(system, schedule, &mut site).await?;
    let judged = Judged::new(schedule.clone(), history);
    judged
        .write(&site.dir, about)
        .context("writing the report")?;
    Ok(judged)
}

async fn system(driver: Driver) -> anyhow::Result<AnySystem> {
    match driver {
        Driver::Process => Ok(AnySystem::Process(ProcessSystem::new(
            crate::binary::dispatcher_binary()?,
        ))),
        #[cfg(feature = "docker")]
        Driver::Container => {
            let system = crate::system::ContainerSystem::new(crate::binary::dispatcher_binary()?);
            Ok(AnySystem::Container(system.await?))
        }
        #[cfg(not(feature = "docker"))]
        Driver::Container => anyhow::bail!("this build has no container driver (feature docker)"),
    }
}
