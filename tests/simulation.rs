//! Tests with the simulation: the worker keeps every invariant under faults.
//!
//! They also test the simulation itself: one seed gives one history, the checkers detect every
//! mutant, and the schedules of the bug base stay fixed.

use std::path::{Path, PathBuf};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use chaos::seed::Seed;
use chaos::sim::hunt::hunt;
use chaos::sim::matrix::{self, Matrix};
use chaos::sim::mutant::table::{MUTANTS, MutantSpec};
use chaos::sim::shrink::shrink;
use chaos::sim::{SimSchedule, Simulator, Size};

/// Number of seeds that run twice.
const STEADY_SEEDS: u64 = 1_000;
/// Events of these seeds. Few events are enough to find a source of randomness.
const STEADY_EVENTS: u32 = 8;
/// Number of random seeds in each test run.
const FRESH_SEEDS: u64 = 150;
/// Number of threads that share a long test.
const THREADS: usize = 2;

/// Limit for one schedule of the bug base. A schedule takes less than a second.
const REPLAY_TIMEOUT: Duration = Duration::from_secs(120);

/// Runs `work` with each number below `THREADS` on a separate thread. Returns the results in order.
fn on_threads<T: Send>(work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    thread::scope(|scope| {
        let work = &work;
        let spawned: Vec<_> = (0..THREADS).map(|part| scope.spawn(move || work(part))).collect();
        spawned.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

// The hash of the last line covers the whole history.
#[test]
fn one_seed_gives_one_history() {
    let size = Size { events: STEADY_EVENTS, workers: 2 };
    let unsteady = on_threads(|part| {
        let simulator = Simulator::new();
        let hash = |schedule: &Arc<SimSchedule>| simulator.run(schedule, None).history().sha256();
        let seeds = (0..STEADY_SEEDS).skip(part).step_by(THREADS);
        let twice = |seed: &u64| {
            let schedule = Arc::new(SimSchedule::generate(Seed::new(*seed), size));
            hash(&schedule) != hash(&schedule)
        };
        seeds.filter(twice).collect::<Vec<u64>>()
    });
    assert_eq!(unsteady.concat(), Vec::<u64>::new());
}

// The seeds are random, and a failure prints its seed.
#[test]
fn random_seeds_keep_every_invariant() {
    let first = Seed::fresh();
    eprintln!("simulation: {FRESH_SEEDS} seeds from {first}");
    let broken = on_threads(|part| {
        let simulator = Simulator::new();
        let seeds = (0..FRESH_SEEDS).skip(part).step_by(THREADS);
        let broken = seeds.filter_map(|index| {
            let seed = first.plus(index);
            let schedule = Arc::new(SimSchedule::generate(seed, Size::default()));
            let finding = simulator.run(&schedule, None).broken()?;
            Some(format!("{seed} {}: {}", finding.checker, finding.summary()))
        });
        broken.collect::<Vec<String>>()
    });
    assert_eq!(
        broken.concat(),
        Vec::<String>::new(),
        "cargo run --release -p chaos -- sim --seed SEED"
    );
}

// The awaits are traced and not listed. The second fault strikes at each await of each recovery.
#[test]
fn delivery_survives_every_fault_and_pair_of_faults_at_every_await() {
    let parts = on_threads(|part| matrix::run(part, THREADS));
    let count = |of: fn(&Matrix) -> usize| parts.iter().map(of).sum::<usize>();
    let (singles, pairs) = (count(|m| m.singles), count(|m| m.pairs));
    eprintln!("crash matrix: {} awaits, {singles} singles, {pairs} pairs", parts[0].awaits);
    let unreached = count(|m| m.unreached.len());
    assert_eq!(unreached, 0, "every single fault must strike");
    let failures: Vec<String> = parts
        .iter()
        .flat_map(|matrix| &matrix.failures)
        .map(|(schedule, finding)| {
            format!("{}: {}\n{:?}", finding.checker, finding.summary(), schedule.faults)
        })
        .collect();
    assert!(failures.is_empty(), "{} failed:\n{}", failures.len(), failures[0]);
    assert!(parts[0].awaits >= 12 && pairs > 1_000, "the matrix is not complete");
}

// Each mutant proves that its checker can detect a mistake.
#[test]
fn predicted_checker_detects_each_mutant_within_its_budget() {
    assert!(MUTANTS.len() >= 20);
    let survivors = on_threads(|part| {
        let mine = MUTANTS.iter().skip(part).step_by(THREADS);
        let survivors = mine.filter_map(|spec| {
            let hunt = hunt(spec, Seed::new(1), 0);
            let name = spec.name;
            hunt.detected_at
                .is_none()
                .then(|| format!("{name}: detected only by {:?}", hunt.others))
        });
        survivors.collect::<Vec<String>>()
    });
    assert_eq!(survivors.concat(), Vec::<String>::new());
}

/// One directory of the bug base.
struct Bug {
    dir: PathBuf,
    schedule: SimSchedule,
    checker: String,
    mutant: Option<&'static MutantSpec>,
}

fn bugs() -> Vec<Bug> {
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("bugbase");
    let mut dirs: Vec<PathBuf> = std::fs::read_dir(&base)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    dirs.sort();
    let read = |dir: PathBuf| {
        let text = std::fs::read_to_string(dir.join("schedule.json")).unwrap();
        let about = std::fs::read_to_string(dir.join("about.txt")).unwrap();
        let field = |name: &str| {
            let mut lines = about.lines();
            lines.find_map(|line| line.strip_prefix(name).map(|rest| rest.trim().to_owned()))
        };
        Bug {
            schedule: SimSchedule::from_text(&text).unwrap(),
            checker: field("checker:").unwrap(),
            mutant: field("mutant:").map(|name| MutantSpec::named(&name).unwrap()),
            dir,
        }
    };
    dirs.into_iter().map(read).collect()
}

// Each schedule once found a bug, or detected a mutant and must still detect it. A bug that stops
// virtual time would never end without the timeout.
#[test]
fn bug_base_passes_and_still_detects_its_mutants() {
    let bugs = bugs();
    assert!(!bugs.is_empty());
    let (sender, replays) = mpsc::channel();
    let replaying = thread::spawn(move || {
        for bug in bugs {
            let dir = bug.dir.display().to_string();
            sender.send((dir, replay(bug))).unwrap();
        }
    });
    loop {
        match replays.recv_timeout(REPLAY_TIMEOUT) {
            Ok((dir, failure)) => assert_eq!(failure, None, "{dir}"),
            Err(RecvTimeoutError::Timeout) => panic!("a schedule of the bug base does not end"),
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    replaying.join().unwrap();
}

/// Replays a schedule without and with its mutant. Returns the failure, if there is one.
fn replay(bug: Bug) -> Option<String> {
    let simulator = Simulator::new();
    let schedule = Arc::new(bug.schedule);
    if let Some(finding) = simulator.run(&schedule, None).broken() {
        return Some(format!("{}: {}", finding.checker, finding.summary()));
    }
    let spec = bug.mutant?;
    let findings = simulator.run(&schedule, Some(spec.mutant)).findings();
    let is_detected = findings
        .iter()
        .any(|finding| finding.checker == bug.checker && finding.verdict.is_invalid());
    (!is_detected).then(|| format!("the mutant {:?} is not detected", spec.name))
}

// A shrunk schedule is useful only if it is small and has the same failure.
#[test]
fn failing_seed_shrinks_to_few_lines_with_the_same_failure() {
    let spec = MutantSpec::named("no fence").unwrap();
    let simulator = Simulator::new();
    let fails = |schedule: &Arc<SimSchedule>| {
        let findings = simulator.run(schedule, Some(spec.mutant)).findings();
        findings
            .iter()
            .any(|finding| finding.checker == spec.detected_by && finding.verdict.is_invalid())
    };
    let failing = (1..)
        .map(|seed| Arc::new(SimSchedule::generate(Seed::new(seed), Size::default())))
        .find(fails)
        .unwrap();
    let small = Arc::new(shrink(&failing, spec.detected_by, Some(spec.mutant)).schedule);
    assert!(fails(&small));
    let size = (small.events.len(), small.faults.len());
    assert!(size <= (3, 3), "{size:?}");
}
