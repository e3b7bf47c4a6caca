//! The accounting table, transition by transition, against real Postgres: what a claim, a settle, a release and a reclaim
//! change, and what a token that is not the event's own changes (nothing).

use std::collections::BTreeSet;
use std::time::Duration;

use dispatcher::event::{
    Disposition, EventId, Holder, LeaseToken, Outcome, Reason, Release, Settled, Settlement,
};
use dispatcher::store::{Cause, Reclaim, Reclaimed, Store};
use futures_util::future::join_all;
use sqlx::Connection;
use uuid::Uuid;

use crate::support::db;
use crate::support::fixture::{Bench, HOLDER, LEASE, settlement};

const COUNTS: &str = "status, reason, attempt_count, failure_count, abandon_count, round";
const LEASED: &str =
    "lease_token is not null, lease_until is not null, claimed_at is not null, holder";

fn text<const N: usize>(values: [&str; N]) -> Vec<Option<String>> {
    values
        .iter()
        .map(|value| (*value != "-").then(|| (*value).to_owned()))
        .collect()
}

fn failed(claim: &dispatcher::event::Claim, delay: Duration) -> Settlement {
    settlement(claim, Outcome::Timeout, Disposition::RetryAfter(delay))
}

/// Three abandonments are one too many; no delay, so that the next claim follows at once.
fn reclaim(cause: Cause) -> Reclaim {
    Reclaim {
        cause,
        delays: vec![Duration::ZERO; 2],
        jitters: vec![0.0; 100],
    }
}

async fn expire(bench: &Bench) {
    let sql = "update webhook_events set lease_until = now() - interval '1 second' where lease_token is not null";
    sqlx::query(sql).execute(&bench.pool).await.unwrap();
}

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
                    .claim(Holder(holder), LEASE, 7)
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
    bench.store.reclaim(reclaim(Cause::Expired)).await.unwrap();
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
            .reclaim(reclaim(Cause::Expired))
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

#[tokio::test]
async fn a_lease_is_not_reclaimed_before_it_runs_out() {
    let bench = Bench::new().await;
    bench.accept(1).await;
    bench.claim_one().await;
    assert_eq!(
        bench.store.reclaim(reclaim(Cause::Expired)).await.unwrap(),
        []
    );
}

#[tokio::test]
async fn abandonments_in_a_row_end_the_event_and_burn_no_failure() {
    let bench = Bench::new().await;
    let id = bench.accept(1).await[0];
    for n in 1..=3_u32 {
        let claim = bench.claim_one().await;
        expire(&bench).await;
        let reclaimed = bench.store.reclaim(reclaim(Cause::Expired)).await.unwrap();
        let expected = Reclaimed {
            key: claim.key,
            holder: HOLDER,
            abandon_count: n,
            dead: n == 3,
        };
        assert_eq!(reclaimed, [expected]);
    }
    assert_eq!(
        bench.row(id, COUNTS).await,
        text(["dead", "abandoned", "3", "0", "3", "0"])
    );
    let rows: Vec<_> = (1..=3).map(|n| (n, "abandoned".to_owned())).collect();
    assert_eq!(bench.attempts(id).await, rows);
    let started =
        "select bool_and(started_at <= now() and duration_ms is null) from delivery_attempts";
    assert!(
        sqlx::query_scalar::<_, bool>(started)
            .fetch_one(&bench.pool)
            .await
            .unwrap()
    );
}

#[tokio::test]
async fn an_abandonment_is_due_after_its_own_delay_and_share_of_the_jitter() {
    let bench = Bench::new().await;
    let mut ids = bench.accept(2).await;
    ids.sort();
    bench.claim(2).await;
    expire(&bench).await;
    let with_jitter = Reclaim {
        cause: Cause::Expired,
        delays: vec![Duration::from_secs(100); 2],
        jitters: vec![0.0, 1.0],
    };
    bench.store.reclaim(with_jitter).await.unwrap();
    for (id, least, most) in [(ids[0], 99, 100), (ids[1], 124, 125)] {
        let within = format!(
            "next_retry_at between now() + interval '{least} s' and now() + interval '{most} s'"
        );
        assert_eq!(bench.row(id, &within).await, text(["true"]));
    }
}

// The advisory lock is what counts: while it is held the holder lives, and nothing of its is taken, whatever was thought.
#[tokio::test]
async fn a_holder_is_absent_only_while_its_lock_is() {
    let bench = Bench::new().await;
    let id = bench.accept(1).await[0];
    // The highest bit of both halves of the lock's key is set: the halves are unsigned.
    let holder = Holder(0x7fff_ffff_ffff_fff1);
    let mut session = sqlx::PgConnection::connect(&bench.url).await.unwrap();
    sqlx::query("select pg_advisory_lock($1)")
        .bind(holder.0)
        .execute(&mut session)
        .await
        .unwrap();
    let register = "insert into workers values ($1, pg_postmaster_start_time(), now())";
    sqlx::query(register)
        .bind(holder.0)
        .execute(&bench.pool)
        .await
        .unwrap();
    bench.store.claim(holder, LEASE, 1).await.unwrap();
    assert_eq!(bench.store.absent_holders().await.unwrap(), []);
    assert_eq!(
        bench
            .store
            .reclaim(reclaim(Cause::Gone(holder)))
            .await
            .unwrap(),
        []
    );

    session.close().await.unwrap();
    crate::support::app::until("the lock is free", || async {
        bench.store.absent_holders().await.unwrap() == [holder]
    })
    .await;
    let reclaimed = bench
        .store
        .reclaim(reclaim(Cause::Gone(holder)))
        .await
        .unwrap();
    assert_eq!(
        reclaimed
            .iter()
            .map(|lease| lease.key.id)
            .collect::<Vec<_>>(),
        [id]
    );
    bench.store.forget(holder).await.unwrap();
    assert_eq!(bench.store.absent_holders().await.unwrap(), []);
}

#[tokio::test]
async fn a_holder_of_an_earlier_start_of_the_server_is_not_gone_by_presence() {
    let bench = Bench::new().await;
    let register =
        "insert into workers values (5, pg_postmaster_start_time() - interval '1 s', now())";
    sqlx::query(register).execute(&bench.pool).await.unwrap();
    assert_eq!(bench.store.absent_holders().await.unwrap(), []);
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
            bench.store.reclaim(reclaim(Cause::Expired)),
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
            .reclaim(reclaim(Cause::Expired))
            .await
            .unwrap()
            .is_empty()
        {}
    }
}

// T1 of the traps: a generic plan, costed while the table was small, must still go by the due index.
#[tokio::test]
async fn the_claim_goes_by_the_due_index_under_a_generic_plan() {
    let bench = Bench::new().await;
    let many = "insert into webhook_events (id, target_url, target_given, payload, status, round, attempt_count,
                    failure_count, abandon_count, next_retry_at, created_at)
                select gen_random_uuid(), 'http://x/', true, '{}', 'pending', 0, 0, 0, 0,
                       now() + g * interval '1 s', now() from generate_series(-100, 20000) g";
    sqlx::query(many).execute(&bench.pool).await.unwrap();
    let mut session = sqlx::PgConnection::connect(&bench.url).await.unwrap();
    for setting in [
        "set plan_cache_mode = force_generic_plan",
        "set enable_seqscan = off",
        "set enable_bitmapscan = off",
    ] {
        sqlx::query(setting).execute(&mut session).await.unwrap();
    }
    let prepare = format!(
        "prepare claiming (bigint, bigint, bigint) as {}",
        dispatcher::store::CLAIM
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(prepare))
        .execute(&mut session)
        .await
        .unwrap();
    let plan: Vec<(String,)> = sqlx::query_as("explain execute claiming (100, 30000000, 7)")
        .fetch_all(&mut session)
        .await
        .unwrap();
    let plan: String = plan.into_iter().map(|(line,)| line + "\n").collect();
    assert!(plan.contains("webhook_events_due"), "{plan}");
    assert!(!plan.contains("Seq Scan on webhook_events"), "{plan}");
    assert!(!plan.contains("Sort"), "{plan}");
}

#[tokio::test]
async fn several_processes_may_migrate_at_once_and_a_newer_schema_is_left_alone() {
    let url = db::database().await;
    let options = dispatcher::store::StoreOptions::of(&crate::support::app::config(&url, &[]));
    let stores: Vec<_> = (0..4)
        .map(|_| dispatcher::store::PgStore::open(&options))
        .collect();
    for migrated in join_all(stores.iter().map(dispatcher::store::PgStore::migrate)).await {
        migrated.expect("all of them succeed");
    }
    let pool = db::pool(&url).await;
    let newer =
        "insert into _sqlx_migrations values (9999, 'from the future', now(), true, '\\x00', 1)";
    sqlx::query(newer).execute(&pool).await.unwrap();
    stores[0]
        .migrate()
        .await
        .expect("an older binary boots on a newer schema");
    assert!(stores[0].is_current().await.unwrap());
}

/// What a token looks like is nobody's business, but that ids are v7 is: they are ordered by time.
#[test]
fn event_ids_are_ordered_by_time() {
    let ids: Vec<_> = (0..100).map(|_| EventId::fresh()).collect();
    assert!(ids.is_sorted());
}
