//! `chaos sim`: the simulation from the command line.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::args::milliseconds;
use super::output::{EXIT_ENVIRONMENT, say};
use crate::seed::Seed;
use crate::sim::mutant::table::MutantSpec;
use crate::sim::soak::{EXIT_UNSTEADY, Failure, REPEAT_ONE_IN, Soak};
use crate::sim::{SimResult, SimSchedule, Simulator, Size, hunt, print, shrink};

/// Number of seeds if neither a number nor a duration is given.
const SEEDS_DEFAULT: u64 = 1_000;
/// Maximum number of events per seed.
const EVENTS_MAX: i64 = 1_000;
/// Maximum number of workers per seed.
const WORKERS_MAX: i64 = 8;
/// Interval between two lines of progress.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

/// The flags of `chaos sim`.
#[derive(Clone, Debug, Args)]
pub struct SimArgs {
    /// Number of seeds [default: 1000].
    #[arg(
        long,
        value_name = "N",
        conflicts_with = "duration",
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    pub seeds: Option<u64>,
    /// Time during which seeds may start, such as 60s or 10m.
    #[arg(long, value_name = "TIME", value_parser = milliseconds)]
    pub duration: Option<u64>,
    /// Run one seed and print its schedule, history and findings.
    #[arg(long, value_name = "SEED", conflicts_with_all = ["seeds", "duration"])]
    pub seed: Option<Seed>,
    /// First seed [default: random].
    #[arg(long, value_name = "SEED")]
    pub from: Option<Seed>,
    /// Number of events per seed.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 30,
        value_parser = clap::value_parser!(u32).range(1..=EVENTS_MAX)
    )]
    pub events: u32,
    /// Number of workers per seed.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 2,
        value_parser = clap::value_parser!(u32).range(1..=WORKERS_MAX)
    )]
    pub workers: u32,
    /// Simulate this mutant until the predicted checker detects it.
    #[arg(long, value_name = "NAME", value_parser = mutant)]
    pub mutant: Option<String>,
    /// Print a Markdown table of all mutants, with N seeds per mutant.
    #[arg(
        long,
        value_name = "N",
        conflicts_with_all = ["seeds", "duration", "seed"],
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    pub mutants: Option<u64>,
    /// Print the result as one line of JSON on stdout.
    #[arg(long)]
    pub json: bool,
    /// Directory for the schedule of the first failure.
    #[arg(long, value_name = "DIR", default_value = "target/sim")]
    pub out: PathBuf,
}

/// Simulates seeds and returns the exit code.
#[must_use]
pub fn sim(args: &SimArgs) -> u8 {
    let size = Size { events: args.events, workers: args.workers };
    if let Some(seed) = args.seed {
        return show(&Arc::new(SimSchedule::generate(seed, size)));
    }
    if let Some(seeds) = args.mutants {
        say(hunt::table(args.from.unwrap_or(Seed::new(1)), seeds).trim_end());
        return 0;
    }
    let first = args.from.unwrap_or_else(Seed::fresh);
    let began = now();
    let until = args.duration.map(|ms| began + Duration::from_millis(ms));
    let count = args.seeds.unwrap_or(SEEDS_DEFAULT);
    let spec = args.mutant.as_deref().and_then(MutantSpec::named);
    let mut soak = Soak::new(size, spec);
    let mut printed = began;
    for index in 0.. {
        let over = until.map_or(index >= count, |until| now() >= until);
        if over || soak.failure.is_some() || soak.unsteady.is_some() {
            break;
        }
        soak.run(first.plus(index), index % REPEAT_ONE_IN == 0);
        if now() - printed >= PROGRESS_INTERVAL {
            printed = now();
            let per_min = per_minute(soak.seeds, printed - began);
            eprintln!("{} seeds, {per_min} per minute, {} failed", soak.seeds, soak.failed);
        }
    }
    let stored = soak.failure.as_ref().map(|failure| store(args, failure));
    print_result(args, first, &soak, now() - began);
    match stored {
        Some(Err(error)) => {
            eprintln!("error: writing the failed schedule: {error}");
            EXIT_ENVIRONMENT
        }
        _ => soak.exit_code(),
    }
}

fn mutant(name: &str) -> Result<String, String> {
    if MutantSpec::named(name).is_some() {
        return Ok(name.to_owned());
    }
    Err("there is no such mutant; `chaos sim --mutants 1` lists them".to_owned())
}

/// Runs a schedule twice, prints schedule, history and findings, and compares the two histories.
pub(super) fn show(schedule: &Arc<SimSchedule>) -> u8 {
    let simulator = Simulator::new();
    let result = simulator.run(schedule, None);
    let again = simulator.run(schedule, None);
    say(print::schedule_text(schedule).trim_end());
    say(print::history_text(&result.ops).trim_end());
    let hash = result.history().sha256();
    let steady = hash == again.history().sha256();
    let code = verdict(result);
    say(&format!("history={hash} steady={steady}"));
    if steady { code } else { EXIT_UNSTEADY }
}

fn verdict(result: SimResult) -> u8 {
    let findings = result.findings();
    for finding in &findings {
        say(&format!("{:>7} {}: {}", finding.verdict.word(), finding.checker, finding.summary()));
    }
    // A single seed may be too short for a verdict, so an unknown finding is not a failure.
    let broken = findings.into_iter().filter(|f| f.verdict.is_invalid());
    let broken: Vec<_> = broken.collect();
    if broken.is_empty() {
        return 0;
    }
    crate::checker::Overall::merge(&broken).exit_code()
}

fn store(args: &SimArgs, failure: &Failure) -> std::io::Result<PathBuf> {
    let name = format!("{}-{}", failure.finding.checker, failure.seed);
    let dir = args.out.join(name);
    std::fs::create_dir_all(&dir)?;
    std::fs::write(dir.join("original.json"), failure.schedule.to_text())?;
    let spec = args.mutant.as_deref().and_then(MutantSpec::named);
    let mutant = spec.map(|spec| spec.mutant);
    let shrunk = shrink::shrink(&failure.schedule, &failure.finding.checker, mutant);
    let (small, path) = (&shrunk.schedule, dir.join("schedule.json"));
    std::fs::write(&path, small.to_text())?;
    let (probes, events, faults) = (shrunk.probes, small.events.len(), small.faults.len());
    eprintln!(
        "shrunk in {probes} runs to {events} events and {faults} faults; replay: chaos replay {}",
        path.display()
    );
    Ok(path)
}

fn print_result(args: &SimArgs, first: Seed, soak: &Soak, took: Duration) {
    for (goal, runs) in soak.goals.counts() {
        eprintln!("{runs:>9} runs: {goal}");
    }
    for (fault, times) in soak.goals.faults() {
        eprintln!("{times:>9} times: {fault}");
    }
    if let Some(failure) = &soak.failure {
        eprintln!("{}: {}", failure.finding.checker, failure.finding.summary());
        let (events, workers) = (args.events, args.workers);
        let seed = failure.seed;
        eprintln!(
            "reproduce: cargo run --release -p chaos -- sim --seed {seed} --events {events} \
             --workers {workers}"
        );
    }
    let per_min = per_minute(soak.seeds, took);
    let failed = soak.failure.as_ref();
    if args.json {
        let line = json!({
            "seeds": soak.seeds,
            "first_seed": first,
            "seeds_per_min": per_min,
            "seconds": took.as_secs_f64(),
            "run_twice": soak.repeated,
            "steady": soak.unsteady.is_none(),
            "failed_seed": failed.map(|failure| failure.seed),
            "failed_checker": failed.map(|failure| &failure.finding.checker),
            "goals": soak.goals.counts().collect::<std::collections::BTreeMap<_, _>>(),
            "faults": soak.goals.faults(),
        });
        return say(&line.to_string());
    }
    let verdict = match soak.exit_code() {
        0 => "pass",
        EXIT_UNSTEADY => "unsteady",
        _ => "fail",
    };
    say(&format!(
        "verdict={verdict} seeds={} first_seed={first} seeds_per_min={per_min} run_twice={}",
        soak.seeds, soak.repeated
    ));
}

fn per_minute(seeds: u64, took: Duration) -> u64 {
    let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX).max(1);
    seeds.saturating_mul(60_000) / ms
}

#[expect(
    clippy::disallowed_methods,
    reason = "the rate in seeds per minute is measured in real time"
)]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}
