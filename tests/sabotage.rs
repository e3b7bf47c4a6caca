//! Who watches the watchers: running dispatchers that are broken on purpose, and the checker that must
//! say so. The honest stand-in, under the same plan, must pass every checker.

use std::collections::BTreeMap;
use std::sync::Arc;

use chaos::checker::Overall;
use chaos::profile::Profile;
use chaos::report::Judged;
use chaos::saboteur::{self, Honest, Lie, StandIn};
use chaos::schedule::Schedule;
use chaos::seed::Seed;

use crate::no_loss::{judged, small};

/// Few attempts and little slack: a saboteur's events may never end.
fn plan() -> Profile {
    let mut profile = Profile {
        events: 40,
        storm_ms: 2_000,
        kills: 1,
        kills_required: 1,
        failures_max: 3,
        drain_slack_ms: 3_000,
        ..small()
    };
    profile.settings.max_attempts = 6;
    profile
}

async fn run(lie: Arc<dyn Lie>, expected: Overall) -> Judged {
    let schedule = Schedule::generate(Seed::new(0x5ab0), &plan());
    judged(&mut StandIn::new(lie), &schedule, BTreeMap::new(), expected).await
}

async fn assert_caught(name: &str) {
    let saboteur = saboteur::all()
        .into_iter()
        .find(|s| s.name == name)
        .unwrap();
    let judged = run(saboteur.lie, Overall::Unsafe).await;
    let verdict = judged.verdict(saboteur.caught_by).unwrap();
    assert!(
        verdict.is_invalid(),
        "{} let it through: {verdict:?}",
        saboteur.caught_by
    );
    assert_eq!(judged.overall, Overall::Unsafe);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_honest_stand_in_passes_every_checker() {
    let judged = run(Arc::new(Honest), Overall::Pass).await;
    assert_eq!(judged.overall, Overall::Pass, "{}", judged.checks_text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dispatcher_that_forgets_an_event_after_its_202_is_caught() {
    assert_caught("forgets_after_202").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dispatcher_that_says_delivered_without_sending_is_caught() {
    assert_caught("says_delivered_unsent").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dispatcher_that_signs_wrongly_is_caught() {
    assert_caught("signs_wrongly").await;
}
