//! Fairness: neither hanging targets, nor a deep backlog, nor a large event delays others.

use dispatcher::Role;
use mock_receiver::Behavior;
use serde_json::json;

use super::{accept, api, event_with, failures};
use crate::support::app::{App, until};
use crate::support::db;
use crate::support::fixture::Endpoint;
use crate::support::view::outcomes;

// There are ten times more hanging events than permits. The healthy events are delivered before any
// hanging attempt times out. Events that wait are released, and the attempt is not counted.
#[tokio::test]
async fn hanging_host_does_not_block_a_healthy_one() {
    let hanging = Endpoint::start(|_| Behavior::Hang { hold_ms: 600_000 }).await;
    let healthy = Endpoint::responding_with(200).await;
    let database = db::database().await;
    let api = api(&database).await;
    let stuck = accept(&api, &hanging, 80).await;
    let own = [
        ("MAX_IN_FLIGHT", "8"),
        ("MAX_IN_FLIGHT_PER_HOST", "4"),
        ("HTTP_TIMEOUT", "60"),
        ("SHUTDOWN_SECONDS", "0.2"),
    ];
    let worker = App::over(&database, Role::Worker, &own).await;
    super::wait_for_open(&hanging, 4).await;
    let healthy_ids = accept(&api, &healthy, 40).await;
    for id in &healthy_ids {
        assert_eq!(outcomes(&event_with(&api, id, "delivered").await), ["delivered"]);
    }
    assert_eq!(hanging.journal.open_requests(), 4, "open requests at the hanging host");
    assert_eq!(hanging.journal.receipts().len(), 4, "requests to the hanging host in total");
    for id in &stuck {
        let event = api.event(id).await;
        assert_eq!((&event["status"], &event["attempts"]), (&json!("pending"), &json!([])));
    }
    // One snapshot, because waiting events are claimed and released all the time.
    let both = "select sum(attempt_count) filter (where status = 'pending'), count(lease_token) from webhook_events";
    let (counted, leased): (i64, i64) = sqlx::query_as(both).fetch_one(&api.pool).await.unwrap();
    assert_eq!(counted, leased, "only open attempts are counted");
    assert_eq!(failures(&api.pool).await, 0);
    worker.stop().await;
    api.stop().await;
}

// Released events are delivered when their host has a free permit.
#[tokio::test]
async fn released_events_are_delivered_later() {
    let endpoint =
        Endpoint::start(|_| Behavior::Answer { status: 200, after_ms: 20, retry_after: None })
            .await;
    let database = db::database().await;
    let api = api(&database).await;
    let ids = accept(&api, &endpoint, 60).await;
    let worker = App::over(&database, Role::Worker, &[("MAX_IN_FLIGHT_PER_HOST", "1")]).await;
    for id in &ids {
        let event = event_with(&api, id, "delivered").await;
        assert_eq!((outcomes(&event), &event["attempt_count"]), (vec!["delivered"], &json!(1)));
    }
    assert_eq!(endpoint.journal.receipts().len(), 60);
    worker.stop().await;
    api.stop().await;
}

// Together the hanging targets could hold all permits twice. No attempt ends within the test. The
// healthy target is as new as the others.
#[tokio::test]
async fn many_hanging_hosts_do_not_block_a_healthy_one() {
    let mut hanging = Vec::new();
    for _ in 0..8 {
        hanging.push(Endpoint::start(|_| Behavior::Hang { hold_ms: 600_000 }).await);
    }
    let healthy = Endpoint::responding_with(200).await;
    let database = db::database().await;
    let api = api(&database).await;
    for endpoint in &hanging {
        accept(&api, endpoint, 8).await;
    }
    let own = [
        ("MAX_IN_FLIGHT", "16"),
        ("MAX_IN_FLIGHT_PER_HOST", "4"),
        ("HTTP_TIMEOUT", "60"),
        ("SHUTDOWN_SECONDS", "0.2"),
    ];
    let worker = App::over(&database, Role::Worker, &own).await;
    until("the hanging targets use their part of the permits", || async {
        let open = hanging.iter().map(|host| host.journal.open_requests());
        open.sum::<usize>() >= 8
    })
    .await;
    for id in &accept(&api, &healthy, 20).await {
        event_with(&api, id, "delivered").await;
    }
    worker.stop().await;
    api.stop().await;
}

/// Inserts events of one target that were due a minute ago, in one transaction.
async fn insert_backlog(api: &App, target: &str, count: i32) {
    let insert = "insert into webhook_events (id, target_url, target_given, payload, status, round, attempt_count,
                    failure_count, abandon_count, next_retry_at, created_at)
                select gen_random_uuid(), $1, true, '1', 'pending', 0, 0, 0, 0, now() - interval '1 min', now()
                from generate_series(1, $2)";
    let insert = sqlx::query(insert).bind(target).bind(count);
    insert.execute(&api.pool).await.unwrap();
}

// Claims take the earliest events first, and all 20,000 are due before those of the healthy target.
// If claims did not pass over them, all would be claimed and released first.
#[tokio::test]
async fn claims_pass_over_the_backlog_of_a_host_at_its_limit() {
    let hanging = Endpoint::start(|_| Behavior::Hang { hold_ms: 600_000 }).await;
    let healthy = Endpoint::responding_with(200).await;
    let database = db::database().await;
    let api = api(&database).await;
    insert_backlog(&api, &hanging.url(0), 20_000).await;
    let own = [("HTTP_TIMEOUT", "60"), ("SHUTDOWN_SECONDS", "0.2")];
    let worker = App::over(&database, Role::Worker, &own).await;
    for id in &accept(&api, &healthy, 20).await {
        event_with(&api, id, "delivered").await;
    }
    let untouched = "select count(*) from webhook_events
        where status = 'pending' and next_retry_at < created_at and lease_token is null";
    let untouched: i64 = sqlx::query_scalar(untouched).fetch_one(&api.pool).await.unwrap();
    assert!(untouched > 5_000, "{untouched} events were not claimed");
    worker.stop().await;
    api.stop().await;
}

// The target responds, so its backlog must be delivered although claims pass over parts of it.
#[tokio::test]
async fn backlog_of_a_healthy_host_is_delivered() {
    let endpoint = Endpoint::responding_with(200).await;
    let database = db::database().await;
    let api = api(&database).await;
    insert_backlog(&api, &endpoint.url(0), 2_000).await;
    let own = [("MAX_IN_FLIGHT", "64"), ("MAX_IN_FLIGHT_PER_HOST", "8")];
    let worker = App::over(&database, Role::Worker, &own).await;
    until("all events are delivered", || async { endpoint.journal.receipts().len() >= 2_000 })
        .await;
    worker.stop().await;
    let delivered = "select count(*) filter (where attempt_count = 1)
        from webhook_events where status = 'delivered'";
    let delivered: i64 = sqlx::query_scalar(delivered).fetch_one(&api.pool).await.unwrap();
    assert_eq!(delivered, 2_000);
    api.stop().await;
}

/// Makes every read of a piece of a payload wait for a lock that the test holds.
const SLOW_PIECES: &str = "
    create schema slow;
    create function slow.substr(bytea, integer, integer) returns bytea language sql volatile as
    $$ select pg_catalog.substr($1, $2, $3) from pg_advisory_xact_lock_shared(7) $$;
    do $$ begin
        execute format('alter database %I set search_path = public, slow, pg_catalog', current_database());
    end $$;
    grant usage on schema slow to public";

// The large event is due first. Its payload does not arrive while the test holds the lock.
#[tokio::test]
async fn large_event_on_a_slow_connection_delays_only_itself() {
    let endpoint = Endpoint::responding_with(200).await;
    let database = db::database().await;
    let api = App::over(&database, Role::Api, &[("MAX_BODY_BYTES", "2097152")]).await;
    sqlx::raw_sql(SLOW_PIECES).execute(&api.pool).await.unwrap();
    let mut lock = api.pool.begin().await.unwrap();
    let take = sqlx::query("select pg_advisory_xact_lock(7)");
    take.execute(&mut *lock).await.unwrap();
    let text = format!("\"{}\"", "x".repeat(1 << 20));
    let large = api.accept(&text, &endpoint.url(99)).await;
    let small = accept(&api, &endpoint, 20).await;
    let worker = App::over(&database, Role::Worker, &[]).await;
    for id in &small {
        event_with(&api, id, "delivered").await;
    }
    assert_eq!(endpoint.journal.receipts().len(), 20);
    lock.rollback().await.unwrap();
    let event = event_with(&api, &large, "delivered").await;
    assert_eq!(outcomes(&event), ["delivered"]);
    worker.stop().await;
    api.stop().await;
}
