//! Rows that an operator has changed by hand: one bad row never blocks the others.
//!
//! There is no route for some repairs yet, so operators use SQL. Each test makes the same kind of
//! mistake and checks that the process runs on and that other events are delivered.

use std::time::Duration;

use dispatcher::event::{Claim, EventId, Settled};
use dispatcher::store::{ReclaimCause, Store};
use sqlx::PgPool;

use crate::support::accounting::{Row, Status, expire, failed, reclaim};
use crate::support::app::App;
use crate::support::fixture::{Bench, Endpoint, WORKER};

async fn execute(pool: &PgPool, sql: String) {
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(pool).await.expect("the statement succeeds");
}

/// Sets columns of one event, as an operator would.
async fn edit(bench: &Bench, id: EventId, columns: &str) {
    let sql = format!("update webhook_events set {columns} where id = '{id}'");
    execute(&bench.pool, sql).await;
}

/// Refuses every change of the event, as a check or a trigger of an operator would.
async fn refuse_changes(bench: &Bench, id: EventId) {
    let sql = format!(
        "create function refuse() returns trigger language plpgsql as
         $$ begin raise exception 'refused by a trigger'; end $$;
         create trigger refuse before update on webhook_events for each row
         when (old.id = '{id}') execute function refuse()"
    );
    execute(&bench.pool, sql).await;
}

fn sorted(ids: impl IntoIterator<Item = EventId>) -> Vec<EventId> {
    let mut ids: Vec<_> = ids.into_iter().collect();
    ids.sort();
    ids
}

fn ids(claims: &[Claim]) -> Vec<EventId> {
    sorted(claims.iter().map(|claim| claim.key.id))
}

/// Claims and abandons the event, so that its attempt 1 is recorded. Then sets its count back.
async fn rewound(bench: &Bench) -> EventId {
    let id = bench.accept(1).await[0];
    bench.claim_one().await;
    expire(bench).await;
    let ended = bench.store.reclaim(reclaim(ReclaimCause::Expired)).await;
    assert_eq!(ended.unwrap().len(), 1);
    edit(bench, id, "attempt_count = 0, abandon_count = 0").await;
    id
}

// The operator replayed the event by hand. The row of attempt 1 refused the whole batch, forever.
#[tokio::test]
async fn reclaim_ends_leases_beside_an_attempt_number_that_exists() {
    let bench = Bench::new().await;
    let bad = rewound(&bench).await;
    let others = bench.accept(3).await;
    bench.claim(10).await;
    expire(&bench).await;
    let ended = bench.store.reclaim(reclaim(ReclaimCause::Expired)).await;
    let mut ended = ended.unwrap();
    ended.sort_by_key(|lease| lease.key.id);
    let recorded: Vec<_> = ended.iter().map(|lease| (lease.key.id, lease.is_recorded)).collect();
    let mut expected: Vec<_> = others.iter().map(|id| (*id, true)).collect();
    expected.push((bad, false));
    expected.sort();
    assert_eq!(recorded, expected);
    assert_eq!(bench.attempts(bad).await, [(1, "abandoned".to_owned())]);
}

#[tokio::test]
async fn settle_counts_beside_an_attempt_number_that_exists() {
    let bench = Bench::new().await;
    let bad = rewound(&bench).await;
    bench.accept(2).await;
    let claims = bench.claim(10).await;
    let batch = claims.iter().map(|claim| failed(claim, Duration::ZERO));
    let settled = bench.store.settle(batch.collect()).await.unwrap();
    let expected: Vec<_> = claims
        .iter()
        .map(|claim| if claim.key.id == bad { Settled::Unrecorded } else { Settled::Now })
        .collect();
    assert_eq!(settled, expected);
    let row = Row { attempts: 1, failures: 1, ..Row::new() };
    assert_eq!(Row::read(&bench, bad).await, row);
}

#[tokio::test]
async fn counts_at_their_limits_are_claimed_settled_and_reclaimed() {
    let bench = Bench::new().await;
    let (max, min) = (i32::MAX, i32::MIN);
    for count in [max, min, -1] {
        let id = bench.accept(1).await[0];
        let counts =
            format!("attempt_count = {count}, failure_count = {count}, abandon_count = {count}");
        edit(&bench, id, &counts).await;
        let claim = bench.claim_one().await;
        let number = if count == max { max } else { 1 };
        assert_eq!(claim.key.number, number.unsigned_abs());
        let settle = vec![failed(&claim, Duration::ZERO)];
        assert_eq!(bench.store.settle(settle).await.unwrap(), [Settled::Now]);
        bench.claim_one().await;
        edit(&bench, id, &counts).await;
        expire(&bench).await;
        let ended = bench.store.reclaim(reclaim(ReclaimCause::Expired)).await;
        assert_eq!(ended.unwrap().len(), 1, "count {count}");
        let is_dead = Row::read(&bench, id).await.status == Status::Dead;
        assert_eq!(is_dead, count == max);
        edit(&bench, id, "next_retry_at = next_retry_at + interval '1 h'").await;
    }
}

// A refused row is alone in its part of the batch in the end.
#[tokio::test]
async fn row_that_refuses_every_change_blocks_no_other_reclaim() {
    let bench = Bench::new().await;
    let all = bench.accept(20).await;
    bench.claim(20).await;
    expire(&bench).await;
    refuse_changes(&bench, all[7]).await;
    let ended = bench.store.reclaim(reclaim(ReclaimCause::Expired)).await;
    let ended = sorted(ended.unwrap().iter().map(|lease| lease.key.id));
    let expected = sorted(all.iter().copied().filter(|id| *id != all[7]));
    assert_eq!(ended, expected);
}

#[tokio::test]
async fn row_that_refuses_every_change_blocks_no_other_claim() {
    let bench = Bench::new().await;
    let all = bench.accept(20).await;
    refuse_changes(&bench, all[0]).await;
    assert_eq!(ids(&bench.claim(20).await), sorted(all[1..].iter().copied()));
    assert_eq!(bench.claim(20).await, [], "only the refused row is left");
}

// Lost pages or a broken disk. The claim reads the payload, so it fails.
#[tokio::test]
async fn corrupted_payload_blocks_no_other_claim() {
    let bench = Bench::new().await;
    let all = bench.accept(5).await;
    // Random bytes, so that they are not compressed into the row itself.
    let large =
        "payload = (select string_agg(sha256(g::text::bytea), '') from generate_series(1, 1000) g)";
    edit(&bench, all[2], large).await;
    // Only a superuser can do this, by presenting the relation as a table for a moment.
    let toast = "(select reltoastrelid from pg_class where oid = 'webhook_events'::regclass)";
    let sql = format!(
        "begin; set local allow_system_table_mods = on;
         update pg_class set relkind = 'r' where oid = {toast};
         do $$ begin execute 'delete from ' || {toast}::regclass; end $$;
         update pg_class set relkind = 't' where oid = {toast}; commit"
    );
    execute(&bench.pool, sql).await;
    // Postgres reads deleted chunks until they are removed.
    execute(&bench.pool, "vacuum webhook_events".to_owned()).await;
    let expected = all.iter().copied().filter(|id| *id != all[2]);
    assert_eq!(ids(&bench.claim(5).await), sorted(expected));
}

// The table refuses such times. A row may be older than the check.
#[tokio::test]
async fn times_that_no_reader_can_express_are_refused_or_read() {
    let bench = Bench::new().await;
    let bad = ["infinity", "-infinity", "290000-01-01"];
    let id = bench.accept(1).await[0];
    for (table, key, columns) in [
        ("webhook_events", "id", vec!["next_retry_at", "created_at", "lease_until", "claimed_at"]),
        ("delivery_attempts", "event_id", vec!["started_at", "next_retry_at"]),
    ] {
        let claim = bench.claim_one().await;
        for column in &columns {
            for time in bad {
                let set = format!("update {table} set {column} = '{time}' where {key} = '{id}'");
                let refused =
                    sqlx::raw_sql(sqlx::AssertSqlSafe(set.clone())).execute(&bench.pool).await;
                assert!(refused.is_err(), "accepted: {set}");
            }
        }
        let settle = vec![failed(&claim, Duration::ZERO)];
        bench.store.settle(settle).await.unwrap();
    }
    for table in ["webhook_events", "delivery_attempts"] {
        let unchecked = format!("alter table {table} drop constraint times_are_finite");
        execute(&bench.pool, unchecked).await;
    }
    for time in bad {
        let all = format!(
            "update delivery_attempts set started_at = '{time}', next_retry_at = '{time}';
             update webhook_events set next_retry_at = '{time}', created_at = '{time}'"
        );
        execute(&bench.pool, all).await;
        bench.store.find(id).await.unwrap().expect("it is stored");
        bench.store.gauges().await.unwrap();
        let epoch = chrono::DateTime::UNIX_EPOCH;
        bench.store.next_due(epoch).await.unwrap();
        let claims = bench.claim(1).await;
        assert_eq!(claims.len(), usize::from(time == "-infinity"));
        let leased = format!("lease_until = '{time}', claimed_at = '{time}'");
        if !claims.is_empty() {
            edit(&bench, id, &leased).await;
            let ended = bench.store.reclaim(reclaim(ReclaimCause::Expired)).await;
            assert_eq!(ended.unwrap().len(), 1);
        }
    }
}

// Rows of an earlier version must not stop the start of this one.
#[tokio::test]
async fn migration_repairs_pending_events_with_infinite_times() {
    let bench = Bench::new().await;
    let all = bench.accept(2).await;
    execute(
        &bench.pool,
        "alter table webhook_events drop constraint times_are_finite;
         alter table delivery_attempts drop constraint times_are_finite;
         delete from _sqlx_migrations where version = 5"
            .to_owned(),
    )
    .await;
    edit(&bench, all[0], "next_retry_at = '-infinity', created_at = 'infinity'").await;
    edit(&bench, all[1], "next_retry_at = 'infinity'").await;
    bench.store.migrate().await.expect("the migration succeeds");
    assert_eq!(ids(&bench.claim(2).await), [all[0]]);
    let last = "next_retry_at = '9999-12-31 00:00:00+00'";
    assert!(bench.holds(all[1], last).await);
    expire(&bench).await;
    let ended = bench.store.reclaim(reclaim(ReclaimCause::Expired)).await;
    assert_eq!(ended.unwrap()[0].worker, WORKER);
}

// Other edits: each bad event ends or waits, and the good one beside it is delivered.
#[tokio::test]
async fn unusual_rows_do_not_stop_other_deliveries() {
    let app = App::start(&[("LEASE_SECONDS", "3")]).await;
    let endpoint = Endpoint::responding_with(200).await;
    let edits = [
        "target_url = ''",
        "target_url = 'no url'",
        "target_url = 'http://'",
        "target_url = 'file:///etc/passwd'",
        "target_url = E'http://127.0.0.1:9/\\n\\u00e9'",
        "payload = ''",
        "payload = '\\x00ff'",
        "failure_count = 2147483647",
        "failure_count = -2147483648",
        "attempt_count = 2147483647",
        "attempt_count = -2147483648",
        "next_retry_at = '0001-01-01 00:00:00+00'",
        "round = 2147483647",
    ];
    for (n, set) in edits.iter().enumerate() {
        let (id, ordinal) = (EventId::fresh(), n as u64);
        let insert = format!(
            "insert into webhook_events (id, target_url, target_given, payload, status, round,
                 attempt_count, failure_count, abandon_count, next_retry_at, created_at)
             values ('{id}', '{}', true, '1', 'pending', 0, 0, 0, 0, now() + interval '1 h', now());
             update webhook_events set {set} where id = '{id}';
             update webhook_events set next_retry_at = least(next_retry_at, now()) where id = '{id}'",
            endpoint.url(1_000 + ordinal)
        );
        execute(&app.pool, insert).await;
        let good = app.accept("1", &endpoint.url(ordinal)).await;
        app.event_with_status(&good, "delivered").await;
    }
    app.stop().await;
}
