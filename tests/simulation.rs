//! The simulation proves the dispatcher's own worker, and proves itself: it repeats itself to the last
//! byte, its checkers kill every mutant, and what it once found stays fixed.

use std::path::{Path, PathBuf};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use chaos::seed::Seed;
use chaos::sim::hunt::hunt;
use chaos::sim::matrix::{self, Matrix};
use chaos::sim::mutant::{MUTANTS, Specimen};
use chaos::sim::shrink::shrink;
use chaos::sim::{SimSchedule, Simulator, Size};

/// Seeds whose two runs must tell the same story.
const STEADY_SEEDS: u64 = 1_000;
/// Events of those seeds: what repeats itself with few of them does so with many.
const STEADY_EVENTS: u32 = 8;
/// Fresh seeds that every test run judges.
const FRESH_SEEDS: u64 = 150;
/// Threads that share the longer of these tests.
const THREADS: usize = 2;

/// No schedule of the bug base takes this long; a guard, not a measurement.
const GUARD: Duration = Duration::from_secs(120);

/// Splits `0..THREADS` over as many threads and gathers what they come back with.
fn on_threads<T: Send>(work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    thread::scope(|scope| {
        let work = &work;
        let spawned: Vec<_> = (0..THREADS)
            .map(|part| scope.spawn(move || work(part)))
            .collect();
        spawned
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    })
}

// A thousand seeds, each run twice: the hash of the last line names the whole history.
#[test]
fn a_seed_run_twice_gives_the_same_history_to_the_last_byte() {
    let size = Size {
        events: STEADY_EVENTS,
        workers: 2,
    };
    let unsteady = on_threads(|part| {
        let simulator = Simulator::new();
        let tail =
            |schedule: &Arc<SimSchedule>| simulator.run(schedule, None).history().tail().to_owned();
        let seeds = (0..STEADY_SEEDS).skip(part).step_by(THREADS);
        let twice = |seed: &u64| {
            let schedule = Arc::new(SimSchedule::generate(Seed::new(*seed), size));
            tail(&schedule) != tail(&schedule)
        };
        seeds.filter(twice).collect::<Vec<u64>>()
    });
    assert_eq!(unsteady.concat(), Vec::<u64>::new());
}

#[test]
fn fresh_seeds_keep_every_invariant() {
    let first = Seed::fresh();
    eprintln!("simulation: {FRESH_SEEDS} seeds from {first}");
    let broken = on_threads(|part| {
        let simulator = Simulator::new();
        let seeds = (0..FRESH_SEEDS).skip(part).step_by(THREADS);
        let broken = seeds.filter_map(|index| {
            let seed = first.plus(index);
            let schedule = Arc::new(SimSchedule::generate(seed, Size::default()));
            let finding = simulator.run(&schedule, None).broken()?;
            Some(format!("{seed} {}: {}", finding.checker, finding.told()))
        });
        broken.collect::<Vec<String>>()
    });
    assert_eq!(
        broken.concat(),
        Vec::<String>::new(),
        "cargo run --release -p chaos -- sim --seed SEED"
    );
}

// The awaits are traced, not listed; the second fault strikes at each await of each recovery.
#[test]
fn one_delivery_survives_every_crash_at_every_await_and_every_pair_of_them() {
    let parts = on_threads(|part| matrix::run(part, THREADS));
    let count = |of: fn(&Matrix) -> usize| parts.iter().map(of).sum::<usize>();
    let (singles, pairs) = (count(|m| m.singles), count(|m| m.pairs));
    eprintln!(
        "crash matrix: {} awaits, {singles} singles, {pairs} pairs",
        parts[0].awaits
    );
    let unreached = count(|m| m.unreached.len());
    assert_eq!(unreached, 0, "every single fault must strike");
    let failures: Vec<String> = parts
        .iter()
        .flat_map(|matrix| &matrix.failures)
        .map(|(schedule, finding)| {
            let (checker, told) = (&finding.checker, finding.told());
            format!("{checker}: {told}\n{:?}", schedule.faults)
        })
        .collect();
    assert!(
        failures.is_empty(),
        "{} failed:\n{}",
        failures.len(),
        failures[0]
    );
    assert!(
        parts[0].awaits >= 12 && pairs > 1_000,
        "the matrix is not whole"
    );
}

#[test]
fn every_mutant_is_killed_by_the_predicted_invariant_within_its_budget() {
    assert!(MUTANTS.len() >= 20);
    let survivors = on_threads(|part| {
        let mine = MUTANTS.iter().skip(part).step_by(THREADS);
        let survivors = mine.filter_map(|specimen| {
            let hunt = hunt(specimen, Seed::new(1), 0);
            let name = specimen.name;
            hunt.killed_at
                .is_none()
                .then(|| format!("{name}: by {:?} only", hunt.others))
        });
        survivors.collect::<Vec<String>>()
    });
    assert_eq!(survivors.concat(), Vec::<String>::new());
}

/// One schedule of the bug base, and what is written beside it.
struct Bug {
    dir: PathBuf,
    schedule: SimSchedule,
    checker: String,
    mutant: Option<&'static Specimen>,
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
        let said = |name: &str| {
            let mut lines = about.lines();
            lines.find_map(|line| line.strip_prefix(name).map(|rest| rest.trim().to_owned()))
        };
        Bug {
            schedule: SimSchedule::from_text(&text).unwrap(),
            checker: said("checker:").unwrap(),
            mutant: said("mutant:").map(|name| Specimen::named(&name).unwrap()),
            dir,
        }
    };
    dirs.into_iter().map(read).collect()
}

// What was found once, and is fixed; and what a mutant was caught by, which must catch it still. A bug that
// keeps virtual time from passing would never end: hence the guard.
#[test]
fn every_schedule_of_the_bug_base_passes_and_still_catches_its_mutant() {
    let bugs = bugs();
    assert!(!bugs.is_empty());
    let (tell, told) = mpsc::channel();
    let replaying = thread::spawn(move || {
        for bug in bugs {
            let dir = bug.dir.display().to_string();
            tell.send((dir, replayed(bug))).unwrap();
        }
    });
    loop {
        match told.recv_timeout(GUARD) {
            Ok((dir, wrong)) => assert_eq!(wrong, None, "{dir}"),
            Err(RecvTimeoutError::Timeout) => panic!("a schedule of the bug base does not end"),
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    replaying.join().unwrap();
}

/// What is wrong with a bug's replay, if anything.
fn replayed(bug: Bug) -> Option<String> {
    let simulator = Simulator::new();
    let plan = Arc::new(bug.schedule);
    if let Some(finding) = simulator.run(&plan, None).broken() {
        return Some(format!("{}: {}", finding.checker, finding.told()));
    }
    let specimen = bug.mutant?;
    let findings = simulator.run(&plan, Some(specimen.mutant)).findings();
    let caught = findings
        .iter()
        .any(|finding| finding.checker == bug.checker && finding.verdict.is_invalid());
    (!caught).then(|| format!("the mutant {:?} goes free", specimen.name))
}

#[test]
fn a_failing_seed_shrinks_to_a_few_lines_that_fail_in_the_same_way() {
    let specimen = Specimen::named("no fence").unwrap();
    let simulator = Simulator::new();
    let fails = |schedule: &Arc<SimSchedule>| {
        let findings = simulator.run(schedule, Some(specimen.mutant)).findings();
        findings
            .iter()
            .any(|finding| finding.checker == specimen.killer && finding.verdict.is_invalid())
    };
    let failing = (1..)
        .map(|seed| Arc::new(SimSchedule::generate(Seed::new(seed), Size::default())))
        .find(fails)
        .unwrap();
    let small = Arc::new(shrink(&failing, specimen.killer, Some(specimen.mutant)).schedule);
    assert!(fails(&small));
    let size = (small.events.len(), small.faults.len());
    assert!(size <= (3, 3), "{size:?}");
}
