//! The audit trigger of the harness against the dispatcher's own statements.
//!
//! The trigger must report each transition with its kind. A change outside the accounting table
//! must make a checker object.

use std::time::Duration;

use chaos::audit::{Audit, Installation};
use chaos::checker::{CHECKERS, Verdict};
use chaos::history::History;
use chaos::history::facts::Facts;
use chaos::history::op::Op;
use chaos::history::transition::{Step, Transition};
use dispatcher::event::{Claim, Disposition, Outcome, Reason, Release};
use dispatcher::store::{ReclaimCause, Store};

use crate::support::accounting::{expire, failed, reclaim};
use crate::support::fixture::{Bench, WORKER, settlement};

async fn audited() -> (Bench, Audit) {
    let bench = Bench::new().await;
    match Audit::install(&bench.url).await.unwrap() {
        Installation::Installed(audit) => (bench, audit),
        Installation::NotPossible { reason } => panic!("{reason}"),
    }
}

/// Reads the transitions since the last read, as steps.
async fn read(audit: &mut Audit) -> Vec<(Step, Transition)> {
    let ops = audit.read().await.unwrap();
    let step = |op: &Op| {
        let (step, transition) = op.transition().unwrap();
        (step, transition.clone())
    };
    ops.iter().map(step).collect()
}

/// Reads the transitions and requires a single one of the expected step.
async fn one(audit: &mut Audit, expected: Step) -> Transition {
    let mut steps = read(audit).await;
    assert_eq!(steps.len(), 1, "{steps:?}");
    let (step, transition) = steps.remove(0);
    assert_eq!(step, expected, "{transition:?}");
    transition
}

async fn execute(bench: &Bench, sql: &'static str) {
    sqlx::query(sql).execute(&bench.pool).await.unwrap();
}

async fn claimed(bench: &Bench, audit: &mut Audit) -> (Claim, Transition) {
    let claim = bench.claim_one().await;
    (claim, one(audit, Step::Claim).await)
}

fn verdict(checker: &str, ops: Vec<Op>) -> Verdict {
    let history = History::from_ops(ops.into_iter().map(|op| (1, op)));
    let mut checkers = CHECKERS.iter();
    let checker = checkers.find(|found| found.name == checker).unwrap();
    (checker.check)(&Facts::of(&history))
}

#[tokio::test]
async fn audit_reports_accept_and_claim_with_the_lease() {
    let (bench, mut audit) = audited().await;
    let id = bench.accept(1).await[0];
    let accept = one(&mut audit, Step::Accept).await;
    assert_eq!((accept.id, accept.attempt), (id.to_string(), 0));
    assert_eq!(accept.due_us, Some(accept.now_us));
    let (claim, claimed) = claimed(&bench, &mut audit).await;
    assert_eq!(claimed.token, Some(claim.key.token.0.to_string()));
    assert_eq!((claimed.attempt, claimed.held), (1, None));
    assert_eq!(claimed.holder, Some(WORKER.to_string()));
    let lease_us = claimed.lease_until_us.unwrap() - claimed.now_us;
    assert_eq!(lease_us, 30_000_000);
    assert_eq!(claimed.after.attempt_count, 1);
}

#[tokio::test]
async fn audit_reports_each_settle_with_outcome_and_token() {
    let (bench, mut audit) = audited().await;
    let cases = [
        (Disposition::Delivered, Outcome::Delivered { status: 200 }, "delivered", 0),
        (Disposition::RetryAfter(Duration::from_secs(900)), Outcome::Timeout, "pending", 1),
        (Disposition::Dead(Reason::Exhausted), Outcome::Connect, "dead", 1),
        (
            Disposition::Dead(Reason::Gone),
            Outcome::Rejected { status: 410, retry_after: None },
            "dead",
            1,
        ),
    ];
    for (disposition, outcome, status, failures) in cases {
        bench.accept(1).await;
        one(&mut audit, Step::Accept).await;
        let (claim, claimed) = claimed(&bench, &mut audit).await;
        let name = outcome.as_str();
        let settle = settlement(&claim, outcome, disposition);
        bench.store.settle(vec![settle]).await.unwrap();
        let settled = one(&mut audit, Step::Settle).await;
        assert_eq!(settled.token, claimed.token);
        assert_eq!(settled.held, claimed.token);
        assert_eq!((settled.outcome.as_deref(), settled.attempt), (Some(name), 1));
        let after = settled.after;
        assert_eq!((after.status.as_str(), after.failure_count), (status, failures));
    }
}

#[tokio::test]
async fn audit_distinguishes_release_and_reclaim_from_settle() {
    let (bench, mut audit) = audited().await;
    bench.accept(1).await;
    one(&mut audit, Step::Accept).await;
    let (claim, _) = claimed(&bench, &mut audit).await;
    let delay = Duration::ZERO;
    let key = claim.key;
    bench.store.release(vec![Release { key, delay }]).await.unwrap();
    let released = one(&mut audit, Step::Release).await;
    assert_eq!((released.attempt, released.after.attempt_count), (1, 0));

    let (_, claimed) = claimed(&bench, &mut audit).await;
    expire(&bench).await;
    read(&mut audit).await;
    bench.store.reclaim(reclaim(ReclaimCause::Expired)).await.unwrap();
    let reclaimed = one(&mut audit, Step::Reclaim).await;
    assert_eq!(reclaimed.held, claimed.token);
    assert_eq!((reclaimed.attempt, reclaimed.after.abandon_count), (1, 1));
    assert_eq!(reclaimed.outcome.as_deref(), Some("abandoned"));
}

#[tokio::test]
async fn audit_reports_cancel_and_replay() {
    let (bench, mut audit) = audited().await;
    let id = bench.accept(1).await[0];
    one(&mut audit, Step::Accept).await;
    let (_, claimed) = claimed(&bench, &mut audit).await;
    bench.store.cancel(id).await.unwrap();
    let cancelled = one(&mut audit, Step::Cancel).await;
    assert_eq!((cancelled.held, cancelled.attempt), (claimed.token, 1));
    assert_eq!(cancelled.outcome.as_deref(), Some("abandoned"));
    assert_eq!(cancelled.after.reason.as_deref(), Some("cancelled"));
    // Neither of them changes the row.
    bench.store.cancel(id).await.unwrap();
    bench.store.replay(id, Some(7)).await.unwrap();
    bench.store.replay(id, Some(0)).await.unwrap();
    let replayed = one(&mut audit, Step::Replay).await;
    assert_eq!((replayed.after.round, replayed.after.attempt_count), (1, 1));
    assert_eq!(replayed.due_us, Some(replayed.now_us));
}

#[tokio::test]
async fn cancel_and_replay_keep_the_accounting() {
    let (bench, mut audit) = audited().await;
    let ids = bench.accept(2).await;
    let claims = bench.claim(2).await;
    let retry = failed(&claims[0], Duration::ZERO);
    bench.store.settle(vec![retry]).await.unwrap();
    for id in ids {
        for round in 0..2 {
            bench.store.cancel(id).await.unwrap();
            bench.store.replay(id, Some(round)).await.unwrap();
        }
    }
    for claim in bench.claim(2).await {
        let outcome = Outcome::Delivered { status: 200 };
        let settle = settlement(&claim, outcome, Disposition::Delivered);
        bench.store.settle(vec![settle]).await.unwrap();
    }
    let (mut ops, census) = audit.census().await.unwrap();
    assert_eq!((census.rows, census.delivered), (2, 2));
    ops.push(Op::Census(census));
    for checker in ["attempt_accounting", "conservation", "fencing", "lease_exclusion"] {
        let verdict = verdict(checker, ops.clone());
        assert!(verdict.is_valid(), "{checker}: {verdict:?}");
    }
}

#[tokio::test]
async fn settle_with_a_stale_token_is_detected_if_it_changes_the_row() {
    let (bench, mut audit) = audited().await;
    bench.accept(1).await;
    let mut ops = Vec::new();
    let stale = bench.claim_one().await;
    expire(&bench).await;
    bench.store.reclaim(reclaim(ReclaimCause::Expired)).await.unwrap();
    let fresh = bench.claim_one().await;
    let late = failed(&stale, Duration::ZERO);
    bench.store.settle(vec![late]).await.unwrap();
    let settle = settlement(&fresh, Outcome::Delivered { status: 200 }, Disposition::Delivered);
    bench.store.settle(vec![settle]).await.unwrap();
    ops.extend(audit.read().await.unwrap());
    let settles = ops.iter().filter(|op| matches!(op, Op::Settle(_))).count();
    // `expire` updates the row by hand. The audit reports this update as a settle without an
    // outcome.
    assert_eq!(settles, 2, "{ops:?}");
    ops.retain(|op| !matches!(op, Op::Settle(settle) if settle.outcome.is_none()));
    assert!(verdict("fencing", ops.clone()).is_valid());

    bench.accept(1).await;
    let claim = bench.claim_one().await;
    sqlx::query(
        "with changed as (
             update webhook_events set status = 'delivered', next_retry_at = null, finished_at = now(),
                 lease_token = null, lease_until = null, claimed_at = null, holder = null
             where id = $1
         )
         insert into delivery_attempts (event_id, number, token, started_at, outcome)
         values ($1, 1, $2, now(), 'delivered')",
    )
    .bind(claim.key.id.0)
    .bind(stale.key.token.0)
    .execute(&bench.pool)
    .await
    .unwrap();
    ops.extend(audit.read().await.unwrap());
    assert!(verdict("fencing", ops).is_invalid());
}

#[tokio::test]
async fn deleted_event_is_detected() {
    let (bench, mut audit) = audited().await;
    bench.accept(2).await;
    execute(
        &bench,
        "delete from webhook_events where id = (select min(id::text)::uuid from webhook_events)",
    )
    .await;
    let (mut ops, census) = audit.census().await.unwrap();
    assert_eq!((census.rows, census.pending), (1, 1));
    ops.push(Op::Census(census));
    for checker in ["conservation", "attempt_accounting", "fencing"] {
        assert!(verdict(checker, ops.clone()).is_invalid(), "{checker}");
    }
}

// A trigger on the table of another dispatcher would fail each of its inserts.
#[tokio::test]
async fn audit_is_not_installed_on_tables_with_other_columns() {
    let url = crate::support::db::database().await;
    let pool = crate::support::db::pool(&url).await;
    let tables = [
        ("", "lacks webhook_events.id uuid"),
        (
            "create table webhook_events (id bigint primary key, target_url text, body jsonb)",
            "webhook_events.round integer",
        ),
    ];
    for (sql, part) in tables {
        sqlx::raw_sql(sql).execute(&pool).await.unwrap();
        match Audit::install(&url).await.unwrap() {
            Installation::NotPossible { reason } => assert!(reason.contains(part), "{reason}"),
            Installation::Installed(_) => panic!("the trigger is installed after {sql:?}"),
        }
    }
    let insert = "insert into webhook_events values (1, 'http://127.0.0.1/', '{}')";
    sqlx::raw_sql(insert).execute(&pool).await.unwrap();
}

// A transaction starts before the first read and commits after it. Its number is lower than a
// number that was already read.
#[tokio::test]
async fn late_commit_is_read_and_no_transition_is_read_twice() {
    let (bench, mut audit) = audited().await;
    bench.accept(1).await;
    let mut late = bench.pool.begin().await.unwrap();
    sqlx::query("update webhook_events set round = 1").execute(&mut *late).await.unwrap();
    bench.accept(1).await;
    let first = read(&mut audit).await;
    assert_eq!(first.len(), 2, "{first:?}");
    late.commit().await.unwrap();
    one(&mut audit, Step::Replay).await;
    assert_eq!(read(&mut audit).await, []);
}
