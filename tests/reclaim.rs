//! The only way a lease ends without its holder: by expiry, or because the holder is known to be gone.

use std::time::Duration;

use dispatcher::event::WorkerId;
use dispatcher::store::{ClaimLimit, Reclaim, ReclaimCause, Reclaimed, Store};
use sqlx::Connection;

use crate::support::accounting::{COUNTS, expire, reclaim, text};
use crate::support::app::until;
use crate::support::fixture::{Bench, HOLDER, LEASE};

#[tokio::test]
async fn a_lease_is_not_reclaimed_before_it_runs_out() {
    let bench = Bench::new().await;
    bench.accept(1).await;
    bench.claim_one().await;
    assert_eq!(
        bench
            .store
            .reclaim(reclaim(ReclaimCause::Expired))
            .await
            .unwrap(),
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
        let reclaimed = bench
            .store
            .reclaim(reclaim(ReclaimCause::Expired))
            .await
            .unwrap();
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
        cause: ReclaimCause::Expired,
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
    let holder = WorkerId(0x7fff_ffff_ffff_fff1);
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
    bench
        .store
        .claim(holder, LEASE, ClaimLimit::of(1))
        .await
        .unwrap();
    assert_eq!(bench.store.absent_workers(holder).await.unwrap(), []);
    assert_eq!(
        bench
            .store
            .reclaim(reclaim(ReclaimCause::Gone(holder)))
            .await
            .unwrap(),
        []
    );

    session.close().await.unwrap();
    until("the lock is free", || async {
        bench.store.absent_workers(holder).await.unwrap() == [holder]
    })
    .await;
    let reclaimed = bench
        .store
        .reclaim(reclaim(ReclaimCause::Gone(holder)))
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
    assert_eq!(
        bench.store.absent_workers(HOLDER).await.unwrap(),
        [HOLDER],
        "only the one that asks and never registered"
    );
}

#[tokio::test]
async fn a_holder_of_an_earlier_start_of_the_server_is_not_gone_by_presence() {
    let bench = Bench::new().await;
    let register =
        "insert into workers values (5, pg_postmaster_start_time() - interval '1 s', now())";
    sqlx::query(register).execute(&bench.pool).await.unwrap();
    assert_eq!(bench.store.absent_workers(HOLDER).await.unwrap(), [HOLDER]);
}
