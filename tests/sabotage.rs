//! Negative tests of the checkers: running dispatchers with a misbehavior, which one checker must
//! detect. The honest fake dispatcher must pass every checker under the same schedules.

mod durability;
mod forged;
mod tables;

use std::collections::BTreeMap;

use chaos::checker::{CHECKERS, Finding, Overall, Property};
use chaos::environment::Server;
use chaos::history::facts::Facts;
use chaos::history::op::Section;
use chaos::nemesis::Schedule;
use chaos::nemesis::{Fault, HangReceiver};
use chaos::report::Judged;
use chaos::saboteur::{Budget, FakeDispatcher, Misbehavior, SABOTEURS, Saboteur};
use chaos::seed::Seed;
use futures_util::StreamExt as _;
use futures_util::stream;

use crate::no_loss::{judged, judged_on};
use crate::support::db;

/// Concurrent runs. More than this starve the receivers of a small machine.
const CONCURRENT_RUNS: usize = 6;

/// Runs the plan of a budget. Returns nothing if it needs a server that this machine cannot start.
async fn run(misbehavior: Misbehavior, budget: Budget, expected: Overall) -> Option<Judged> {
    let schedule = budget.schedule(Seed::new(0x5ab0));
    let mut system = FakeDispatcher::new(misbehavior);
    if budget.needs_own_server() {
        let mut own = db::dedicated_server().await?;
        let url = own.create_database("sabotage").await.unwrap();
        let databases = BTreeMap::from([(Section::Main, url)]);
        let server = Server::Own(own);
        return Some(judged_on(&mut system, &schedule, databases, server, expected).await);
    }
    let mut databases = BTreeMap::new();
    if budget.database {
        databases.insert(Section::Main, db::database().await);
    }
    Some(judged(&mut system, &schedule, databases, expected).await)
}

/// Returns a message if a saboteur was not detected by the predicted checker and only by listed
/// ones. A saboteur whose server cannot be started here is skipped.
async fn misjudged(saboteur: &Saboteur) -> Option<String> {
    let mut checkers = CHECKERS.iter();
    let detecting = checkers.find(|checker| checker.name == saboteur.detected_by);
    let expected = match detecting.unwrap().property {
        Property::Liveness => Overall::Stuck,
        _ => Overall::Unsafe,
    };
    let judged = run(saboteur.misbehavior, saboteur.budget, expected).await?;
    let broken = judged.findings.iter().filter(|f| f.verdict.is_invalid());
    let broken: Vec<&Finding> = broken.collect();
    let detected = broken.iter().any(|f| f.checker == saboteur.detected_by);
    let named = |f: &&Finding| {
        f.checker == saboteur.detected_by || saboteur.also.contains(&f.checker.as_str())
    };
    // A violation of safety that the table lists outweighs one of liveness.
    let unsafe_too = broken.iter().any(|finding| finding.property == Property::Safety);
    let expected = if unsafe_too { Overall::Unsafe } else { expected };
    let right = detected && broken.iter().all(named) && judged.overall == expected;
    (!right).then(|| {
        let (name, by) = (saboteur.name, saboteur.detected_by);
        format!("{name}, to be detected by {by}:\n{}", judged.checks_text())
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn predicted_checker_detects_every_saboteur() {
    assert!(SABOTEURS.len() >= 19);
    let misjudged = stream::iter(SABOTEURS.iter().map(misjudged)).buffer_unordered(CONCURRENT_RUNS);
    let misjudged: Vec<String> = misjudged.filter_map(std::future::ready).collect().await;
    assert!(misjudged.is_empty(), "{}", misjudged.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn honest_fake_dispatcher_passes_every_checker() {
    let mut budgets: Vec<Budget> = Vec::new();
    for budget in SABOTEURS.iter().map(|saboteur| saboteur.budget) {
        if !budgets.contains(&budget) {
            budgets.push(budget);
        }
    }
    let runs = budgets.into_iter().map(|budget| async move {
        let Some(judged) = run(Misbehavior::Honest, budget, Overall::Pass).await else {
            return;
        };
        assert_eq!(judged.overall, Overall::Pass, "{}", judged.checks_text());
        // The checkers that detect the saboteurs of this budget have judged.
        let saboteurs = SABOTEURS.iter().filter(|s| s.budget == budget);
        for by in saboteurs.map(|saboteur| saboteur.detected_by) {
            let has_judged = judged.findings.iter().any(|finding| finding.checker == by);
            assert!(has_judged, "{by} has not judged {budget:?}:\n{}", judged.checks_text());
        }
    });
    let runs = stream::iter(runs).buffer_unordered(CONCURRENT_RUNS);
    runs.collect::<Vec<()>>().await;
}

// A hang without a request shows nothing about the dispatcher. Counted as a fault without effect,
// it made whole runs unknown.
#[tokio::test(flavor = "multi_thread")]
async fn hang_without_a_request_is_skipped_and_the_run_passes() {
    let profile = Budget::of_workers(2).with_fault(HangReceiver::KIND).profile();
    let mut schedule = Schedule::generate(Seed::new(0x5ab0), &profile);
    for event in &mut schedule.events {
        event.receiver = 0;
    }
    for planned in &mut schedule.faults {
        if let Fault::HangReceiver(hang) = &mut planned.fault {
            hang.receiver = 1;
        }
    }
    let mut system = FakeDispatcher::new(Misbehavior::Honest);
    let judged = judged(&mut system, &schedule, BTreeMap::new(), Overall::Pass).await;
    assert_eq!(judged.overall, Overall::Pass, "{}", judged.checks_text());
    let skipped = Facts::of(&judged.history).skipped;
    let why = "receivers: no traffic for this fault passed on r1";
    assert_eq!(skipped, [(HangReceiver::KIND.name, why); 2]);
}
