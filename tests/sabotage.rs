//! Who watches the watchers: running dispatchers that are broken on purpose, and the checker that must
//! say so. The honest stand-in, under the same plan, must pass every checker.

mod durability;
mod tables;

use std::collections::BTreeMap;
use std::sync::Arc;

use chaos::checker::{CHECKERS, Finding, Kind, Overall, PLANNED_CHECKERS};
use chaos::history::facts::Facts;
use chaos::nemesis::{Fault, HangReceiver};
use chaos::report::Judged;
use chaos::saboteur::{Budget, Honest, Lie, SABOTEURS, Saboteur, StandIn};
use chaos::schedule::Schedule;
use chaos::seed::Seed;
use futures_util::StreamExt as _;
use futures_util::stream;

use crate::no_loss::judged;

/// Runs at once: they mostly wait, but all of them together starve the receivers of a small machine.
const AT_ONCE: usize = 6;

async fn run(lie: Arc<dyn Lie>, budget: Budget, expected: Overall) -> Judged {
    let schedule = Schedule::generate(Seed::new(0x5ab0), &budget.profile());
    judged(&mut StandIn::new(lie), &schedule, BTreeMap::new(), expected).await
}

/// What is wrong with how a saboteur was judged, if anything.
async fn misjudged(saboteur: &Saboteur) -> Option<String> {
    let planned = PLANNED_CHECKERS.iter().map(|(checker, _)| checker);
    let kind = CHECKERS
        .iter()
        .chain(planned)
        .find(|checker| checker.name == saboteur.caught_by)
        .unwrap()
        .kind;
    let expected = match kind {
        Kind::Liveness => Overall::Stuck,
        _ => Overall::Unsafe,
    };
    let judged = run((saboteur.lie)(), saboteur.budget, expected).await;
    let broken = judged.findings.iter().filter(|f| f.verdict.is_invalid());
    let broken: Vec<&Finding> = broken.collect();
    let caught = broken.iter().any(|f| f.checker == saboteur.caught_by);
    let named = |f: &&Finding| {
        f.checker == saboteur.caught_by || saboteur.also_caught_by.contains(&f.checker.as_str())
    };
    let right = caught && broken.iter().all(named) && judged.overall == expected;
    (!right).then(|| {
        let (name, by) = (saboteur.name, saboteur.caught_by);
        format!("{name}, to be caught by {by}:\n{}", judged.checks_text())
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn every_saboteur_is_caught_by_the_predicted_checker_within_its_budget() {
    assert!(SABOTEURS.len() >= 11);
    let misjudged = stream::iter(SABOTEURS.iter().map(misjudged)).buffer_unordered(AT_ONCE);
    let misjudged: Vec<String> = misjudged.filter_map(std::future::ready).collect().await;
    assert!(misjudged.is_empty(), "{}", misjudged.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_honest_stand_in_passes_every_checker_under_the_same_plans() {
    let mut budgets: Vec<Budget> = Vec::new();
    for budget in SABOTEURS.iter().map(|saboteur| saboteur.budget) {
        if !budgets.contains(&budget) {
            budgets.push(budget);
        }
    }
    let runs = budgets.into_iter().map(|budget| async move {
        let judged = run(Arc::new(Honest), budget, Overall::Pass).await;
        assert_eq!(judged.overall, Overall::Pass, "{}", judged.checks_text());
        // What must catch the liar has been asked.
        let liars = SABOTEURS.iter().filter(|s| s.budget == budget);
        for by in liars.map(|saboteur| saboteur.caught_by) {
            assert!(judged.findings.iter().any(|f| f.checker == by), "{by}");
        }
    });
    let runs = stream::iter(runs).buffer_unordered(AT_ONCE);
    runs.collect::<Vec<()>>().await;
}

// Such a hang shows nothing of the dispatcher: taken for a fault without effect, it left whole runs unknown.
#[tokio::test(flavor = "multi_thread")]
async fn a_hang_that_no_request_meets_is_skipped_by_name_and_leaves_no_doubt() {
    let profile = Budget::of_workers(2)
        .with_fault(HangReceiver::KIND)
        .profile();
    let mut schedule = Schedule::generate(Seed::new(0x5ab0), &profile);
    for event in &mut schedule.events {
        event.receiver = 0;
    }
    for planned in &mut schedule.faults {
        if let Fault::HangReceiver(hang) = &mut planned.fault {
            hang.receiver = 1;
        }
    }
    let mut system = StandIn::new(Arc::new(Honest));
    let judged = judged(&mut system, &schedule, BTreeMap::new(), Overall::Pass).await;
    assert_eq!(judged.overall, Overall::Pass, "{}", judged.checks_text());
    let skipped = Facts::of(&judged.history).skipped;
    let why = "receivers: nothing that it is for came by on r1";
    assert_eq!(skipped, [(HangReceiver::KIND.name, why); 2]);
}
