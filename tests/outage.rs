//! Outages of the database: no event is lost, no attempt is wasted, and the dispatcher recovers
//! without an operator. The API returns no 202 that it cannot keep.

mod exhausted;
mod new_worker;
mod replies;
mod server;
mod sessions;

use chaos::links::to_database;
use chaos::proxy::{Control, Direction};
use dispatcher::Role;
use mock_receiver::Behavior;
use reqwest::StatusCode;
use serde_json::Value;
use sqlx::PgPool;

use crate::support::app::{App, id_of, until};
use crate::support::db;
use crate::support::fixture::Endpoint;

/// A short lease, so that an outage of a few seconds outlasts it.
const SHORT: &[(&str, &str)] = &[("HTTP_TIMEOUT", "1"), ("LEASE_SECONDS", "1.5")];

/// A long timeout, so that a slow receiver does not end the attempt.
const SLOW: &[(&str, &str)] = &[("HTTP_TIMEOUT", "10")];

fn outcomes(event: &Value) -> Vec<&str> {
    let attempts = event["attempts"].as_array().unwrap();
    attempts.iter().map(|attempt| attempt["outcome"].as_str().unwrap()).collect()
}

/// Posts `count` events, each to a separate path. The posts are sequential, because a burst at a
/// newly started server may wait too long for connections and get 503.
async fn accept(app: &App, endpoint: &Endpoint, count: u64) -> Vec<String> {
    let mut ids = Vec::new();
    for number in 0..count {
        ids.push(app.accept("{}", &endpoint.url(number)).await);
    }
    ids
}

/// Waits until `count` requests have arrived. Some of them must still be open.
async fn all_requests_arrived(endpoint: &Endpoint, count: usize) {
    until("all requests are at the receiver", || async {
        endpoint.journal.receipts().len() == count
    })
    .await;
    assert!(endpoint.journal.open_requests() > 0, "the receiver responded before the fault");
}

async fn assert_unavailable(app: &App) {
    let response = app.post(r#"{"payload":1,"target_url":"http://127.0.0.1:9/"}"#).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(response.headers().contains_key("retry-after"));
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    assert_eq!(app.get("/readyz").await.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(app.get("/livez").await.status(), StatusCode::OK);
}

/// Waits until every lease expired as long ago as it lasted, on the clock of the server. The query
/// does not use the proxied link.
async fn twice_the_lease_has_passed(database: &str) {
    let direct = db::pool(database).await;
    let expired_long_ago =
        "select bool_and(now() - lease_until > lease_until - claimed_at) from webhook_events";
    until("twice the lease has passed", || async {
        let expired: Option<bool> =
            sqlx::query_scalar(expired_long_ago).fetch_one(&direct).await.unwrap();
        expired.expect("the leases remain while the link is cut")
    })
    .await;
}

// A request is at the receiver when the link is cut. Its 200 arrives during the outage, which lasts
// twice the lease. The worker must settle before any worker, also itself, reclaims by expiry.
#[tokio::test]
async fn results_are_settled_after_an_outage_longer_than_the_lease() {
    let endpoint = Endpoint::responding_after(200, 500).await;
    let database = db::database().await;
    let (link, url) = to_database(&database).unwrap();
    let app = App::over(&url, Role::Serve, SHORT).await;
    let second = App::over(&url, Role::Worker, SHORT).await;
    let ids = accept(&app, &endpoint, 5).await;
    all_requests_arrived(&endpoint, 5).await;

    link.set(Control::Refuse);
    assert_unavailable(&app).await;
    twice_the_lease_has_passed(&database).await;
    link.set(Control::Pass);

    for id in &ids {
        let event = app.event_where(id, "delivered", |event| event["status"] == "delivered").await;
        assert_eq!(outcomes(&event), ["delivered"], "{event:#}");
        assert_eq!(event["attempt_count"], 1);
    }
    assert_eq!(endpoint.journal.receipts().len(), 5, "number of requests");
    app.stop().await;
    second.stop().await;
}

// Established connections stay open without traffic, as with a paused Postgres.
#[tokio::test]
async fn stalled_database_returns_503_and_recovers() {
    let endpoint = Endpoint::responding_with(200).await;
    let (link, url) = to_database(&db::database().await).unwrap();
    let app = App::over(&url, Role::Serve, &[]).await;
    link.set(Control::Stall);
    assert_unavailable(&app).await;
    link.set(Control::Pass);
    let id = loop {
        let body = format!(r#"{{"payload":1,"target_url":"{}"}}"#, endpoint.url(1));
        let response = app.post(body).await;
        match response.status() {
            StatusCode::ACCEPTED => break id_of(response).await,
            status => assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE),
        }
    };
    let event = app.event_with_status(&id, "delivered").await;
    assert_eq!(outcomes(&event), ["delivered"]);
    app.stop().await;
}

#[tokio::test]
async fn api_returns_503_without_a_database_and_starts_later() {
    let database = db::database().await;
    let (link, url) = to_database(&database).unwrap();
    link.set(Control::Refuse);
    let app = App::unready(&url, Role::Serve, &[], &database).await;
    assert_unavailable(&app).await;
    link.set(Control::Pass);
    app.until_ready().await;
    let endpoint = Endpoint::responding_with(200).await;
    let id = app.accept("{}", &endpoint.url(1)).await;
    app.event_with_status(&id, "delivered").await;
    app.stop().await;
}

#[tokio::test]
async fn terminated_sessions_reconnect_without_a_reclaim() {
    let endpoint =
        Endpoint::start(|_| Behavior::Answer { status: 200, after_ms: 2_000, retry_after: None })
            .await;
    let database = db::database().await;
    let app = App::over(&database, Role::Serve, SLOW).await;
    let second = App::over(&database, Role::Worker, SLOW).await;
    let ids = accept(&app, &endpoint, 5).await;
    all_requests_arrived(&endpoint, 5).await;
    let cut = "select count(pg_terminate_backend(pid)) from pg_stat_activity
               where datname = current_database() and application_name = 'webhook-dispatcher'";
    let ended: i64 = sqlx::query_scalar(cut).fetch_one(&app.pool).await.unwrap();
    assert!(ended > 0);
    for id in &ids {
        let event = app.event_where(id, "delivered", |event| event["status"] == "delivered").await;
        assert_eq!(outcomes(&event), ["delivered"], "{event:#}");
    }
    app.stop().await;
    second.stop().await;
}

/// Process id of the session that holds a presence lock, and its client port.
async fn presence_session(pool: &PgPool) -> Option<(i32, i32)> {
    let session = "select l.pid, a.client_port from pg_locks l join pg_stat_activity a using (pid)
                   join workers w on l.objid = (w.holder & 4294967295)::oid
                   where l.locktype = 'advisory' and l.objsubid = 1 and l.granted
                       and a.datname = current_database()";
    sqlx::query_as(session).fetch_optional(pool).await.unwrap()
}

// The server has ended the session, and the client is not notified, as behind a gateway that drops
// its state. Other workers consider this worker absent. It must detect this and acquire a new lock,
// or all its later claims are reclaimed.
#[tokio::test]
async fn worker_with_half_open_presence_acquires_it_again() {
    let endpoint = Endpoint::responding_with(200).await;
    let database = db::database().await;
    let (link, url) = to_database(&database).unwrap();
    let app = App::over(&url, Role::Serve, SLOW).await;
    let direct = db::pool(&database).await;
    until("the presence lock is held", || async { presence_session(&direct).await.is_some() })
        .await;
    let (pid, port) = presence_session(&direct).await.unwrap();
    link.set_on(u16::try_from(port).unwrap(), Control::Swallow(Direction::Down));
    let ended: bool = sqlx::query_scalar("select pg_terminate_backend($1)")
        .bind(pid)
        .fetch_one(&direct)
        .await
        .unwrap();
    assert!(ended);
    until("another session holds the lock", || async {
        presence_session(&direct).await.is_some_and(|(now, _)| now != pid)
    })
    .await;
    let second = App::over(&database, Role::Worker, SLOW).await;
    for id in accept(&app, &endpoint, 5).await {
        let event = app.event_with_status(&id, "delivered").await;
        assert_eq!(outcomes(&event), ["delivered"], "{event:#}");
    }
    app.stop().await;
    second.stop().await;
}

// Another worker may delete the row while this worker is cut off. Without the row, no worker would
// notice a later exit of this one.
#[tokio::test]
async fn worker_with_missing_row_registers_again() {
    let app = App::start(SLOW).await;
    let rows = || async {
        let count = "select count(*) from workers";
        sqlx::query_scalar::<_, i64>(count).fetch_one(&app.pool).await.unwrap()
    };
    until("the worker is registered", || async { rows().await == 1 }).await;
    sqlx::query("delete from workers").execute(&app.pool).await.unwrap();
    until("the worker is registered again", || async { rows().await == 1 }).await;
    app.stop().await;
}

// 40 events of 1 MB over a link of 6 MB per second. One claim of all of them would time out, and so
// would each later one. A claim limited by bytes needs a third of the timeout. The lease is short,
// in case a busy machine is too slow for one claim.
#[tokio::test]
async fn large_events_are_delivered_over_a_slow_link() {
    let settings = &[("HTTP_TIMEOUT", "4"), ("LEASE_SECONDS", "6")];
    let endpoint = Endpoint::responding_with(200).await;
    let database = db::database().await;
    let api = App::over(&database, Role::Api, settings).await;
    let insert = "
        insert into webhook_events (id, target_url, target_given, payload, status, round,
            attempt_count, failure_count, abandon_count, next_retry_at, created_at)
        select gen_random_uuid(), $1, true, convert_to('\"' || repeat('x', 1000000) || '\"', 'UTF8'),
            'pending', 0, 0, 0, 0, now(), now() from generate_series(1, 40)";
    sqlx::query(insert).bind(endpoint.url(1)).execute(&api.pool).await.unwrap();
    let (link, url) = to_database(&database).unwrap();
    link.set(Control::Slow { bytes_per_ms: 6_000 });
    let worker = App::over(&url, Role::Worker, settings).await;
    until("all events are delivered", || async {
        let open = "select count(*) from webhook_events where status <> 'delivered'";
        sqlx::query_scalar::<_, i64>(open).fetch_one(&api.pool).await.unwrap() == 0
    })
    .await;
    worker.stop().await;
    api.stop().await;
}
