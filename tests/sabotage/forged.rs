//! A forged history is detected: requests of an honest run are removed, and their attempts are
//! recorded as failed connects. Before `attempts_explained`, such a run was judged `pass`.

use std::collections::BTreeSet;

use chaos::checker::{Overall, Tier, judge};
use chaos::history::History;
use chaos::history::op::{Op, State};
use chaos::saboteur::{Budget, Misbehavior};

use super::run;

/// The numbers of the settled attempts of an event before the one that delivered it.
fn settled_failures(state: &State) -> BTreeSet<u32> {
    let settled = state.attempts.iter();
    let settled = settled.filter(|row| !["abandoned", "delivered"].contains(&row.outcome.as_str()));
    settled.map(|row| row.number).collect()
}

/// Removes the requests of every settled failure and records each of them as `connect`. Returns the
/// number of removed requests, too.
fn forged(history: &History) -> (History, usize) {
    let mut failures = BTreeSet::new();
    for entry in history.entries() {
        if let Op::State(state) = &entry.op {
            let numbers = settled_failures(state).into_iter();
            failures.extend(numbers.map(|number| (Some(state.ordinal), Some(number))));
        }
    }
    let mut removed = BTreeSet::new();
    for entry in history.entries() {
        if let Op::RecvBegin(begin) = &entry.op
            && failures.contains(&(begin.ordinal, begin.attempt))
        {
            removed.insert(begin.req.clone());
        }
    }
    let kept = history.entries().iter().filter(|entry| match &entry.op {
        Op::RecvBegin(begin) => !removed.contains(&begin.req),
        Op::RecvEnd(end) => !removed.contains(&end.req),
        _ => true,
    });
    let ops = kept.map(|entry| {
        let mut op = entry.op.clone();
        if let Op::State(state) = &mut op {
            let numbers = settled_failures(state);
            let rows = state.attempts.iter_mut();
            for row in rows.filter(|row| numbers.contains(&row.number)) {
                (row.outcome, row.status_code) = ("connect".to_owned(), None);
            }
        }
        (entry.t, op)
    });
    (History::from_ops(ops), removed.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_without_their_requests_are_detected() {
    let honest = run(Misbehavior::Honest, Budget::of_workers(1), Overall::Pass).await.unwrap();
    assert_eq!(honest.overall, Overall::Pass, "{}", honest.checks_text());
    let (forged, removed) = forged(&honest.history);
    assert!(removed > 0, "the run has failed attempts");
    let findings = judge(&forged, Tier::Real);
    assert_eq!(Overall::merge(&findings), Overall::Unsafe);
    let explained = findings.iter().find(|f| f.checker == "attempts_explained");
    assert!(explained.unwrap().verdict.is_invalid());
}
