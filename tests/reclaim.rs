//! Reclaim against Postgres: it ends a lease after its expiry, or if the presence lock of its
//! worker is absent.
//!
//! A reclaim is the only transition that ends a lease without its token. If it acted too early,
//! a running worker would lose its result and the event would be sent again.

use std::time::Duration;

use dispatcher::event::{Reason, WorkerId};
use dispatcher::store::{ClaimLimit, DueRange, Reclaim, ReclaimCause, Reclaimed, Store};
use sqlx::Connection;

use crate::support::accounting::{Row, Status, expire, reclaim};
use crate::support::app::until;
use crate::support::fixture::{Bench, LEASE, WORKER};

#[tokio::test]
async fn lease_is_not_reclaimed_before_it_expires() {
    let bench = Bench::new().await;
    bench.accept(1).await;
    bench.claim_one().await;
    let reclaimed = bench.store.reclaim(reclaim(ReclaimCause::Expired)).await.unwrap();
    assert_eq!(reclaimed, []);
}

#[tokio::test]
async fn abandons_in_a_row_end_the_event_without_failures() {
    let bench = Bench::new().await;
    let id = bench.accept(1).await[0];
    for n in 1..=3_u32 {
        let claim = bench.claim_one().await;
        expire(&bench).await;
        let reclaimed = bench.store.reclaim(reclaim(ReclaimCause::Expired)).await.unwrap();
        let expected = Reclaimed {
            key: claim.key,
            worker: WORKER,
            abandon_count: n,
            is_dead: n == 3,
            is_recorded: true,
        };
        assert_eq!(reclaimed, [expected]);
    }
    let expected = Row {
        status: Status::Dead,
        reason: Some(Reason::Abandoned),
        attempts: 3,
        abandons: 3,
        ..Row::new()
    };
    assert_eq!(Row::read(&bench, id).await, expected);
    let rows: Vec<_> = (1..=3).map(|n| (n, "abandoned".to_owned())).collect();
    assert_eq!(bench.attempts(id).await, rows);
    // The worker that knows how long the attempt took has not settled it.
    let no_duration =
        "select bool_and(started_at <= now() and duration_ms is null) from delivery_attempts";
    assert!(sqlx::query_scalar::<_, bool>(no_duration).fetch_one(&bench.pool).await.unwrap());
}

#[tokio::test]
async fn abandoned_event_is_due_after_its_delay_and_jitter() {
    let bench = Bench::new().await;
    let mut ids = bench.accept(2).await;
    ids.sort();
    bench.claim(2).await;
    expire(&bench).await;
    let with_jitter = Reclaim {
        cause: ReclaimCause::Expired,
        delays: vec![Duration::from_secs(100); 2],
        factors: vec![1.0, 1.25],
        range: DueRange::ALL,
    };
    bench.store.reclaim(with_jitter).await.unwrap();
    for (id, least, most) in [(ids[0], 99, 100), (ids[1], 124, 125)] {
        let within = format!(
            "next_retry_at between now() + interval '{least} s' and now() + interval '{most} s'"
        );
        assert!(bench.holds(id, &within).await, "not in {least} to {most} s");
    }
}

// The statement checks the lock again. A worker that still holds its lock keeps its leases, even
// if the caller concluded that it is absent.
#[tokio::test]
async fn worker_is_absent_only_while_its_lock_is_free() {
    let bench = Bench::new().await;
    let id = bench.accept(1).await[0];
    // The highest bit of both halves of the lock key is set, because the halves are unsigned.
    let holder = WorkerId(0x7fff_ffff_ffff_fff1);
    let mut session = sqlx::PgConnection::connect(&bench.url).await.unwrap();
    sqlx::query("select pg_advisory_lock($1)").bind(holder.0).execute(&mut session).await.unwrap();
    let register = "insert into workers values ($1, pg_postmaster_start_time(), now())";
    sqlx::query(register).bind(holder.0).execute(&bench.pool).await.unwrap();
    let claim = bench.store.claim(holder, LEASE, ClaimLimit::of(1)).await;
    claim.unwrap();
    assert_eq!(bench.store.absent_workers(holder).await.unwrap(), []);
    let gone = || bench.store.reclaim(reclaim(ReclaimCause::Gone(holder)));
    assert_eq!(gone().await.unwrap(), []);

    session.close().await.unwrap();
    until("the lock is free", || async {
        bench.store.absent_workers(holder).await.unwrap() == [holder]
    })
    .await;
    let reclaimed = gone().await.unwrap();
    let ids: Vec<_> = reclaimed.iter().map(|lease| lease.key.id).collect();
    assert_eq!(ids, [id]);
    bench.store.forget(holder).await.unwrap();
    assert_eq!(
        bench.store.absent_workers(WORKER).await.unwrap(),
        [WORKER],
        "only the caller itself, which never registered"
    );
}

// A restart of the server frees every lock, so a row from before the restart proves nothing.
#[tokio::test]
async fn worker_from_before_a_server_restart_is_not_absent() {
    let bench = Bench::new().await;
    let register =
        "insert into workers values (5, pg_postmaster_start_time() - interval '1 s', now())";
    sqlx::query(register).execute(&bench.pool).await.unwrap();
    assert_eq!(bench.store.absent_workers(WORKER).await.unwrap(), [WORKER]);
}
