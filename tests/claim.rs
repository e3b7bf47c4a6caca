//! Claim, settle and release against Postgres, transition by transition.
//!
//! Each test compares the whole row before and after a transition. A wrong count in the row would
//! send an event too often, or end it too early. `tests/reclaim.rs` tests the fourth transition.

mod horizon;
mod limits;
mod payloads;
mod releases;

use std::collections::BTreeSet;
use std::time::Duration;

use dispatcher::event::{
    Claim, Disposition, EventId, LeaseToken, Outcome, Reason, Release, Settled, Settlement,
    WorkerId,
};
use dispatcher::store::{ClaimLimit, ReclaimCause, Store};
use futures_util::future::join_all;
use uuid::Uuid;

use crate::support::accounting::{Row, Status, expire, failed, reclaim};
use crate::support::fixture::{Bench, LEASE, WORKER, settlement};

#[tokio::test]
async fn claim_leases_the_event_and_counts_the_attempt() {
    let bench = Bench::new().await;
    let id = bench.accept(1).await[0];
    assert_eq!(Row::read(&bench, id).await, Row::new());
    let claim = bench.claim_one().await;
    assert_eq!(claim.key.id, id);
    assert_eq!(claim.key.number, 1);
    assert_eq!(claim.failure_count, 0);
    let leased = Row { attempts: 1, leased_by: Some(WORKER.0), ..Row::new() };
    assert_eq!(Row::read(&bench, id).await, leased);
    let again = bench.claim(10).await;
    assert_eq!(again, [], "a leased event was claimed again");
}

// Eight claimers share two connections and compete for 200 events. A claim that reads without
// `skip locked` or without the lease condition returns the same event to two of them.
#[tokio::test]
async fn two_workers_never_claim_the_same_event() {
    let bench = Bench::new().await;
    bench.accept(200).await;
    let claims = join_all((1..=8).map(|holder| {
        let store = bench.store.clone();
        async move {
            let mut claims = Vec::new();
            loop {
                let claimed = store
                    .claim(WorkerId(holder), LEASE, ClaimLimit::of(7))
                    .await
                    .expect("the claim succeeds")
                    .claims;
                if claimed.is_empty() {
                    return claims;
                }
                claims.extend(claimed);
            }
        }
    }));
    let claims: Vec<_> = claims.await.into_iter().flatten().collect();
    let events: BTreeSet<_> = claims.iter().map(|claim| claim.key.id).collect();
    let tokens: BTreeSet<_> = claims.iter().map(|claim| claim.key.token).collect();
    assert_eq!((claims.len(), events.len(), tokens.len()), (200, 200, 200));
}

#[tokio::test]
async fn success_ends_the_event_and_resets_the_abandon_count() {
    let bench = Bench::new().await;
    let id = bench.accept(1).await[0];
    bench.claim_one().await;
    expire(&bench).await;
    bench.store.reclaim(reclaim(ReclaimCause::Expired)).await.unwrap();
    let claim = bench.claim_one().await;
    let settled = bench.store.settle(vec![delivered(&claim, 204)]).await;
    assert_eq!(settled.unwrap(), [Settled::Now]);
    let expected = Row { status: Status::Delivered, attempts: 2, ..Row::new() };
    assert_eq!(Row::read(&bench, id).await, expected);
    let has_end = "next_retry_at is null and finished_at is not null";
    assert!(bench.holds(id, has_end).await);
    assert_eq!(bench.attempts(id).await, [(1, "abandoned".into()), (2, "delivered".into())]);
}

#[tokio::test]
async fn failure_counts_and_is_due_after_its_delay() {
    let bench = Bench::new().await;
    let id = bench.accept(1).await[0];
    let claim = bench.claim_one().await;
    let delay = Duration::from_millis(90_001);
    let settled = bench.store.settle(vec![failed(&claim, delay)]).await;
    assert_eq!(settled.unwrap(), [Settled::Now]);
    let expected = Row { attempts: 1, failures: 1, ..Row::new() };
    assert_eq!(Row::read(&bench, id).await, expected);
    let due_in_time = "next_retry_at between now() + interval '80 s' \
                       and now() + interval '90.001 s'";
    assert!(bench.holds(id, due_in_time).await);
    let same_in_attempt = "next_retry_at = (select a.next_retry_at from delivery_attempts a \
                           where a.event_id = webhook_events.id)";
    assert!(bench.holds(id, same_in_attempt).await);
    let early = bench.claim(10).await;
    assert_eq!(early, [], "claimed before it was due");
    let next = bench.store.next_due(chrono::DateTime::UNIX_EPOCH).await.unwrap().unwrap();
    assert!(next > Duration::from_secs(80) && next <= delay, "{next:?}");
}

#[tokio::test]
async fn dead_event_keeps_its_reason() {
    let bench = Bench::new().await;
    for reason in [Reason::Exhausted, Reason::Gone] {
        let id = bench.accept(1).await[0];
        let claim = bench.claim_one().await;
        let dead = settlement(&claim, Outcome::Timeout, Disposition::Dead(reason));
        let settled = bench.store.settle(vec![dead]).await.unwrap();
        assert_eq!(settled, [Settled::Now]);
        let expected = Row {
            status: Status::Dead,
            reason: Some(reason),
            attempts: 1,
            failures: 1,
            ..Row::new()
        };
        assert_eq!(Row::read(&bench, id).await, expected);
    }
}

// A worker sends a settlement again if the reply to the first one was lost.
#[tokio::test]
async fn repeated_settle_returns_already_and_changes_nothing() {
    let bench = Bench::new().await;
    let id = bench.accept(1).await[0];
    let claim = bench.claim_one().await;
    let settle = || bench.store.settle(vec![failed(&claim, Duration::ZERO)]);
    assert_eq!(settle().await.unwrap(), [Settled::Now]);
    assert_eq!(settle().await.unwrap(), [Settled::Already]);
    let _later = bench.claim_one().await;
    let during_later_attempt = settle().await.unwrap();
    assert_eq!(during_later_attempt, [Settled::Already]);
    assert_eq!(bench.attempts(id).await, [(1, "timeout".into())]);
    let expected = Row { attempts: 2, failures: 1, leased_by: Some(WORKER.0), ..Row::new() };
    assert_eq!(Row::read(&bench, id).await, expected);
}

#[tokio::test]
async fn stale_token_cannot_settle_or_release() {
    let bench = Bench::new().await;
    let id = bench.accept(1).await[0];
    let stale = bench.claim_one().await;
    expire(&bench).await;
    let reclaimed = bench.store.reclaim(reclaim(ReclaimCause::Expired)).await.unwrap();
    assert_eq!(reclaimed.len(), 1);
    let current = bench.claim_one().await;
    let before = all_columns(&bench, id).await;
    let settled = bench.store.settle(vec![delivered(&stale, 200)]).await;
    assert_eq!(settled.unwrap(), [Settled::LeaseLost]);
    let release = Release { key: stale.key, delay: Duration::ZERO };
    assert_eq!(bench.store.release(vec![release]).await.unwrap(), 0);
    assert_eq!(before, all_columns(&bench, id).await);
    assert_eq!(bench.attempts(id).await, [(1, "abandoned".into())]);
    let settled = bench.store.settle(vec![delivered(&current, 200)]).await;
    assert_eq!(settled.unwrap(), [Settled::Now]);
}

// The end of the lease only allows a reclaim. Without one, the token in the row is still valid.
#[tokio::test]
async fn settle_after_expiry_counts_if_no_reclaim_came_first() {
    let bench = Bench::new().await;
    let id = bench.accept(1).await[0];
    let claim = bench.claim_one().await;
    expire(&bench).await;
    let settled = bench.store.settle(vec![delivered(&claim, 200)]).await;
    assert_eq!(settled.unwrap(), [Settled::Now]);
    let expected = Row { status: Status::Delivered, attempts: 1, ..Row::new() };
    assert_eq!(Row::read(&bench, id).await, expected);
}

#[tokio::test]
async fn settle_returns_results_in_the_order_of_the_batch() {
    let bench = Bench::new().await;
    bench.accept(3).await;
    let mut claims = bench.claim(3).await;
    claims.sort_by_key(|claim| std::cmp::Reverse(claim.key.id));
    let mut batch: Vec<_> = claims.iter().map(|claim| failed(claim, LEASE)).collect();
    batch[1].key.token = LeaseToken(Uuid::new_v4());
    let settled = bench.store.settle(batch).await.unwrap();
    assert_eq!(settled, [Settled::Now, Settled::LeaseLost, Settled::Now]);
}

#[tokio::test]
async fn release_counts_no_attempt_and_writes_no_attempt_row() {
    let bench = Bench::new().await;
    let id = bench.accept(1).await[0];
    let claim = bench.claim_one().await;
    let release = |delay| vec![Release { key: claim.key, delay }];
    let released = bench.store.release(release(Duration::ZERO)).await.unwrap();
    assert_eq!(released, 1);
    let released = bench.store.release(release(Duration::ZERO)).await.unwrap();
    assert_eq!(released, 0, "the second release found a lease");
    assert_eq!(Row::read(&bench, id).await, Row::new());
    assert_eq!(bench.attempts(id).await, []);
    let again = bench.claim_one().await;
    assert_eq!(again.key.number, 1, "the attempt number is used again");
    assert_ne!(again.key.token, claim.key.token, "a token is never reused");
    let later = vec![Release { key: again.key, delay: Duration::from_secs(60) }];
    assert_eq!(bench.store.release(later).await.unwrap(), 1);
    let early = bench.claim(1).await;
    assert_eq!(early, [], "claimed before the delay of the release ended");
}

// Settle, release and reclaim change the same rows concurrently, with batches in opposite orders.
// If a statement locks rows in the order of its input, Postgres reports a deadlock.
#[tokio::test]
async fn concurrent_transitions_of_the_same_events_do_not_deadlock() {
    let bench = Bench::new().await;
    bench.accept(200).await;
    for _ in 0..5 {
        let claims = bench.claim(200).await;
        expire(&bench).await;
        let settle = |reverse: bool| {
            let mut batch: Vec<_> =
                claims.iter().map(|claim| failed(claim, Duration::ZERO)).collect();
            if reverse {
                batch.reverse();
            }
            bench.store.settle(batch)
        };
        let release =
            claims.iter().rev().map(|claim| Release { key: claim.key, delay: Duration::ZERO });
        let (forward, backward, released, reclaimed) = tokio::join!(
            settle(false),
            settle(true),
            bench.store.release(release.collect()),
            bench.store.reclaim(reclaim(ReclaimCause::Expired)),
        );
        let settled = forward
            .unwrap()
            .iter()
            .chain(&backward.unwrap())
            .filter(|settled| **settled == Settled::Now)
            .count();
        let ended = settled + released.unwrap() + reclaimed.unwrap().len();
        // A reclaim skips locked rows, so some leases may remain. No lease may end twice.
        assert!(ended <= claims.len(), "{ended} ends of {} leases", claims.len());
        expire(&bench).await;
        while !bench.store.reclaim(reclaim(ReclaimCause::Expired)).await.unwrap().is_empty() {}
    }
}

fn delivered(claim: &Claim, status: u16) -> Settlement {
    let outcome = Outcome::Delivered { status };
    settlement(claim, outcome, Disposition::Delivered)
}

async fn all_columns(bench: &Bench, id: EventId) -> String {
    sqlx::query_scalar("select e::text from webhook_events e where id = $1")
        .bind(id.0)
        .fetch_one(&bench.pool)
        .await
        .unwrap()
}
