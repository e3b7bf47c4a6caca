//! The accounting table, transition by transition, against real Postgres: what a claim, a settle and a release change, and
//! what a token that is not the event's own changes (nothing).

mod limits;

use std::collections::BTreeSet;
use std::time::Duration;

use dispatcher::event::{Disposition, LeaseToken, Outcome, Reason, Release, Settled, WorkerId};
use dispatcher::store::{ClaimLimit, ReclaimCause, Store};
use futures_util::future::join_all;
use uuid::Uuid;

use crate::support::accounting::{COUNTS, LEASED, expire, failed, reclaim, text};
use crate::support::fixture::{Bench, LEASE, settlement};

#[tokio::test]
async fn a_claim_leases_the_event_and_begins_its_attempt() {
    let bench = Bench::new().await;
    let id = bench.accept(1).await[0];
    assert_eq!(
        bench.row(id, COUNTS).await,
        text(["pending", "-", "0", "0", "0", "0"])
    );
    let claim = bench.claim_one().await;
    assert_eq!(
        (claim.key.id, claim.key.number, claim.failure_count),
        (id, 1, 0)
    );
    assert_eq!(
        bench.row(id, COUNTS).await,
        text(["pending", "-", "1", "0", "0", "0"])
    );
    assert_eq!(
        bench.row(id, LEASED).await,
        text(["true", "true", "true", "7"])
    );
    assert_eq!(
        bench.claim(10).await,
        [],
        "an event under a lease is no candidate"
    );
}

// Eight claimers over two connections race for 200 events; every event must be handed out once.
#[tokio::test]
async fn two_workers_never_hold_one_event() {
    let bench = Bench::new().await;
    bench.accept(200).await;
    let claims = join_all((1..=8).map(|holder| {
        let store = bench.store.clone();
        async move {
            let mut mine = Vec::new();
            loop {
                let claimed = store
                    .claim(WorkerId(holder), LEASE, ClaimLimit::of(7))
                    .await
                    .expect("a claim")
                    .claims;
                if claimed.is_empty() {
                    return mine;
                }
                mine.extend(claimed);
            }
        }
    }));
    let claims: Vec<_> = claims.await.into_iter().flatten().collect();
    let events: BTreeSet<_> = claims.iter().map(|claim| claim.key.id).collect();
    let tokens: BTreeSet<_> = claims.iter().map(|claim| claim.key.token).collect();
    assert_eq!((claims.len(), events.len(), tokens.len()), (200, 200, 200));
}

#[tokio::test]
async fn a_success_ends_the_event_and_a_row_of_abandonments() {
    let bench = Bench::new().await;
    let id = bench.accept(1).await[0];
    bench.claim_one().await;
    expire(&bench).await;
    bench
        .store
        .reclaim(reclaim(ReclaimCause::Expired))
        .await
        .unwrap();
    let claim = bench.claim_one().await;
    let done = settlement(
        &claim,
        Outcome::Delivered { status: 204 },
        Disposition::Delivered,
    );
    assert_eq!(
        bench.store.settle(vec![done]).await.unwrap(),
        [Settled::Now]
    );
    assert_eq!(
        bench.row(id, COUNTS).await,
        text(["delivered", "-", "2", "0", "0", "0"])
    );
    assert_eq!(
        bench.row(id, LEASED).await,
        text(["false", "false", "false", "-"])
    );
    assert_eq!(
        bench
            .row(id, "next_retry_at, finished_at is not null")
            .await,
        text(["-", "true"])
    );
    assert_eq!(
        bench.attempts(id).await,
        [(1, "abandoned".into()), (2, "delivered".into())]
    );
}

#[tokio::test]
async fn a_failure_is_due_again_after_its_delay_and_counts() {
    let bench = Bench::new().await;
    let id = bench.accept(1).await[0];
    let claim = bench.claim_one().await;
    let settled = bench
        .store
        .settle(vec![failed(&claim, Duration::from_millis(90_001))])
        .await;
    assert_eq!(settled.unwrap(), [Settled::Now]);
    assert_eq!(
        bench.row(id, COUNTS).await,
        text(["pending", "-", "1", "1", "0", "0"])
    );
    let sql = "select (a.next_retry_at = e.next_retry_at)::text, \
               (e.next_retry_at between now() + interval '80 s' and now() + interval '90.001 s')::text \
               from webhook_events e join delivery_attempts a on a.event_id = e.id";
    let due: (String, String) = sqlx::query_as(sql).fetch_one(&bench.pool).await.unwrap();
    assert_eq!(due, ("true".into(), "true".into()));
    assert_eq!(bench.claim(10).await, [], "it is not due yet");
    let next = bench
        .store
        .next_due(chrono::DateTime::UNIX_EPOCH)
        .await
        .unwrap()
        .unwrap();
    assert!(next > Duration::from_secs(80) && next <= Duration::from_millis(90_001));
}

#[tokio::test]
async fn a_dead_event_keeps_its_reason() {
    let bench = Bench::new().await;
    for (reason, word) in [(Reason::Exhausted, "exhausted"), (Reason::Gone, "gone")] {
        let id = bench.accept(1).await[0];
        let claim = bench.claim_one().await;
        let dead = settlement(&claim, Outcome::Timeout, Disposition::Dead(reason));
        assert_eq!(
            bench.store.settle(vec![dead]).await.unwrap(),
            [Settled::Now]
        );
        assert_eq!(
            bench.row(id, COUNTS).await,
            text(["dead", word, "1", "1", "0", "0"])
        );
    }
}

#[tokio::test]
async fn a_settle_sent_again_says_so_and_logs_once() {
    let bench = Bench::new().await;
    let id = bench.accept(1).await[0];
    let claim = bench.claim_one().await;
    let settle = || bench.store.settle(vec![failed(&claim, Duration::ZERO)]);
    assert_eq!(settle().await.unwrap(), [Settled::Now]);
    assert_eq!(settle().await.unwrap(), [Settled::Already]);
    let _later = bench.claim_one().await;
    assert_eq!(
        settle().await.unwrap(),
        [Settled::Already],
        "even while a later attempt is under way"
    );
    assert_eq!(bench.attempts(id).await, [(1, "timeout".into())]);
    assert_eq!(
        bench.row(id, COUNTS).await,
        text(["pending", "-", "2", "1", "0", "0"])
    );
}

#[tokio::test]
async fn a_stale_token_changes_nothing() {
    let bench = Bench::new().await;
    let id = bench.accept(1).await[0];
    let stale = bench.claim_one().await;
    expire(&bench).await;
    assert_eq!(
        bench
            .store
            .reclaim(reclaim(ReclaimCause::Expired))
            .await
            .unwrap()
            .len(),
        1
    );
    let current = bench.claim_one().await;
    let whole = "e::text";
    let sql = |columns: &str| format!("select {columns} from webhook_events e");
    let before: String = sqlx::query_scalar(sqlx::AssertSqlSafe(sql(whole)))
        .fetch_one(&bench.pool)
        .await
        .unwrap();
    let done = settlement(
        &stale,
        Outcome::Delivered { status: 200 },
        Disposition::Delivered,
    );
    assert_eq!(
        bench.store.settle(vec![done]).await.unwrap(),
        [Settled::LeaseLost]
    );
    let release = Release {
        key: stale.key,
        delay: Duration::ZERO,
    };
    assert_eq!(bench.store.release(vec![release]).await.unwrap(), 0);
    let after: String = sqlx::query_scalar(sqlx::AssertSqlSafe(sql(whole)))
        .fetch_one(&bench.pool)
        .await
        .unwrap();
    assert_eq!(before, after);
    assert_eq!(bench.attempts(id).await, [(1, "abandoned".into())]);
    let done = settlement(
        &current,
        Outcome::Delivered { status: 200 },
        Disposition::Delivered,
    );
    assert_eq!(
        bench.store.settle(vec![done]).await.unwrap(),
        [Settled::Now]
    );
}

#[tokio::test]
async fn a_settle_after_the_lease_ran_out_counts_as_long_as_nobody_reclaimed() {
    let bench = Bench::new().await;
    let id = bench.accept(1).await[0];
    let claim = bench.claim_one().await;
    expire(&bench).await;
    let done = settlement(
        &claim,
        Outcome::Delivered { status: 200 },
        Disposition::Delivered,
    );
    assert_eq!(
        bench.store.settle(vec![done]).await.unwrap(),
        [Settled::Now]
    );
    assert_eq!(
        bench.row(id, COUNTS).await,
        text(["delivered", "-", "1", "0", "0", "0"])
    );
}

#[tokio::test]
async fn a_batch_answers_for_each_in_the_order_it_was_given() {
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
async fn a_release_burns_nothing_and_writes_no_row() {
    let bench = Bench::new().await;
    let id = bench.accept(1).await[0];
    let claim = bench.claim_one().await;
    let release = |delay| {
        vec![Release {
            key: claim.key,
            delay,
        }]
    };
    assert_eq!(
        bench.store.release(release(Duration::ZERO)).await.unwrap(),
        1
    );
    assert_eq!(
        bench.store.release(release(Duration::ZERO)).await.unwrap(),
        0,
        "a second one finds no lease"
    );
    assert_eq!(
        bench.row(id, COUNTS).await,
        text(["pending", "-", "0", "0", "0", "0"])
    );
    assert_eq!(
        bench.row(id, LEASED).await,
        text(["false", "false", "false", "-"])
    );
    assert_eq!(bench.attempts(id).await, []);
    let again = bench.claim_one().await;
    assert_eq!(
        again.key.number, 1,
        "the number of a released claim is used again"
    );
    assert_ne!(again.key.token, claim.key.token, "its token never is");
    let later = vec![Release {
        key: again.key,
        delay: Duration::from_secs(60),
    }];
    assert_eq!(bench.store.release(later).await.unwrap(), 1);
    assert_eq!(bench.claim(1).await, [], "due at the time given");
}

// Settles, releases, reclaims and claims of the same rows at once: batches in opposite orders must not deadlock.
#[tokio::test]
async fn transitions_of_the_same_events_at_once_do_not_deadlock() {
    let bench = Bench::new().await;
    bench.accept(200).await;
    for _ in 0..5 {
        let claims = bench.claim(200).await;
        expire(&bench).await;
        let settle = |reverse: bool| {
            let mut batch: Vec<_> = claims
                .iter()
                .map(|claim| failed(claim, Duration::ZERO))
                .collect();
            if reverse {
                batch.reverse();
            }
            bench.store.settle(batch)
        };
        let release = claims.iter().rev().map(|claim| Release {
            key: claim.key,
            delay: Duration::ZERO,
        });
        let (one, other, released, reclaimed) = tokio::join!(
            settle(false),
            settle(true),
            bench.store.release(release.collect()),
            bench.store.reclaim(reclaim(ReclaimCause::Expired)),
        );
        let settled = one
            .unwrap()
            .iter()
            .chain(&other.unwrap())
            .filter(|s| **s == Settled::Now)
            .count();
        let ended = settled + released.unwrap() + reclaimed.unwrap().len();
        // A reclaim skips what is locked, so some leases may be left; none may end twice.
        assert!(
            ended <= claims.len(),
            "{ended} ends of {} leases",
            claims.len()
        );
        expire(&bench).await;
        while !bench
            .store
            .reclaim(reclaim(ReclaimCause::Expired))
            .await
            .unwrap()
            .is_empty()
        {}
    }
}
