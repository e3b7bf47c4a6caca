//! Hand-off: a posted event is stored with a lease and sent without a claim. If the worker cannot
//! take it, it is stored as pending or released.

use chaos::links::to_database;
use chaos::proxy::{Control, Statement};
use dispatcher::Role;
use mock_receiver::Behavior;
use reqwest::StatusCode;
use serde_json::json;
use sqlx::PgPool;

use super::operations::samples;
use super::sent;
use crate::support::app::{App, WAIT_MAX, until};
use crate::support::db;
use crate::support::fixture::Endpoint;

async fn handed_over(app: &App) -> f64 {
    samples(app).await.get("webhook_hand_offs_total").copied().unwrap_or_default()
}

/// Posts until an event is handed over: the worker may still take its presence.
async fn until_open(app: &App, endpoint: &Endpoint) {
    until("the worker takes events", || async {
        sent(app, &endpoint.url(0)).await;
        handed_over(app).await > 0.0
    })
    .await;
}

/// Status, number of attempts and holder of the only event with this payload.
async fn row(pool: &PgPool, payload: &str) -> (String, i32, Option<i64>) {
    let row = "select status, attempt_count, holder from webhook_events where payload = $1";
    sqlx::query_as(row).bind(payload.as_bytes()).fetch_one(pool).await.unwrap()
}

#[tokio::test]
async fn event_is_stored_with_a_lease_and_sent_without_a_claim() {
    let app = App::start(&[]).await;
    let endpoint = Endpoint::responding_with(200).await;
    until_open(&app, &endpoint).await;
    let before = samples(&app).await;
    let event = sent(&app, &endpoint.url(1)).await;
    assert_eq!((&event["status"], &event["attempt_count"]), (&json!("delivered"), &json!(1)));
    let after = samples(&app).await;
    let grown = |name: &str| after[name] - before[name];
    assert_eq!(grown("webhook_hand_offs_total"), 1.0);
    assert_eq!(grown("webhook_claims_total"), 1.0, "no other claim");
    app.stop().await;
}

// The retry is claimed like any other event.
#[tokio::test]
async fn failed_first_attempt_of_a_handed_over_event_is_retried() {
    let app = App::start(&[("BACKOFF_CAP_SECONDS", "0.05")]).await;
    let endpoint = Endpoint::start(|seen| match seen.ordinal {
        Some(0) => Behavior::answer(200),
        _ => Behavior::answer(if seen.arrival == 1 { 500 } else { 200 }),
    })
    .await;
    let event = sent(&app, &endpoint.url(1)).await;
    assert_eq!((&event["status"], &event["attempt_count"]), (&json!("delivered"), &json!(2)));
    app.stop().await;
}

#[tokio::test]
async fn event_without_a_permit_is_pending_until_one_is_free() {
    let app = App::start(&[("MAX_IN_FLIGHT", "1")]).await;
    let hung =
        Endpoint::start(|_| Behavior::Answer { status: 200, retry_after: None, after_ms: 1_000 })
            .await;
    let quick = Endpoint::responding_with(200).await;
    // Without a backlog, only the permit decides.
    until_open(&app, &quick).await;
    let first = app.accept("1", &hung.url(1)).await;
    until("the only permit is in use", || async { hung.journal.open_requests() == 1 }).await;
    let second = app.accept("2", &quick.url(2)).await;
    assert_eq!(row(&app.pool, "2").await, ("pending".into(), 0, None));
    for id in [first, second] {
        let event = app.event_with_status(&id, "delivered").await;
        assert_eq!(event["attempt_count"], 1);
    }
    app.stop().await;
}

#[tokio::test]
async fn process_with_the_api_role_stores_pending_events() {
    let app = App::over(&db::database().await, Role::Api, &[]).await;
    app.accept("1", "http://127.0.0.1:9/").await;
    assert_eq!(row(&app.pool, "1").await, ("pending".into(), 0, None));
    app.stop().await;
}

// The batch is under way when the stop begins. Its event arrives while the worker drains.
#[tokio::test]
async fn event_that_arrives_during_a_stop_is_released() {
    let app = App::start(&[]).await;
    let endpoint = Endpoint::responding_with(200).await;
    until_open(&app, &endpoint).await;
    let pool = app.pool.clone();
    let mut blocking = pool.begin().await.unwrap();
    let lock = "lock table webhook_events in exclusive mode";
    sqlx::query(lock).execute(&mut *blocking).await.unwrap();
    let body = json!({"payload": 7, "target_url": endpoint.url(7)}).to_string();
    let post = tokio::spawn({
        let (client, url) = (app.client.clone(), app.url("/events"));
        let request = client.post(url).header("content-type", "application/json").body(body);
        async move { request.send().await.unwrap().status() }
    });
    let waits = "select count(*) from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock'";
    until("the insert waits", || async {
        sqlx::query_scalar::<_, i64>(waits).fetch_one(&pool).await.unwrap() > 0
    })
    .await;
    let stopping = tokio::spawn(app.stop());
    // The worker deletes its row only after its last claim has ended.
    let (status, ()) = tokio::join!(async { post.await.unwrap() }, async {
        tokio::task::yield_now().await;
        blocking.rollback().await.unwrap();
    });
    stopping.await.unwrap();
    assert_eq!(status, StatusCode::ACCEPTED);
    let (state, attempts, holder) = row(&pool, "7").await;
    // It was sent if it arrived before the stop.
    let is_sent = endpoint.journal.receipts().iter().any(|receipt| receipt.ordinal == Some(7));
    let expected = if is_sent { ("delivered", 1) } else { ("pending", 0) };
    assert_eq!((state.as_str(), attempts, holder), (expected.0, expected.1, None));
}

// The batch is committed and its reply is lost, so only the row shows the lease. The lease is so
// long that it cannot expire during the test.
#[tokio::test]
async fn lease_of_a_batch_whose_reply_is_lost_is_released() {
    let endpoint = Endpoint::responding_with(200).await;
    let database = db::database().await;
    let (link, url) = to_database(&database).unwrap();
    let app = App::over(&url, Role::Serve, &[("LEASE_SECONDS", "600")]).await;
    until_open(&app, &endpoint).await;
    link.set(Control::CutCommit(Statement::Insert));
    let body = json!({"payload": 7, "target_url": endpoint.url(7)}).to_string();
    assert_eq!(app.post(body).await.status(), StatusCode::SERVICE_UNAVAILABLE);
    let cut = link.sees(WAIT_MAX, |effects| effects.cut == Some(Statement::Insert));
    assert!(cut.await, "no reply was cut: {:?}", link.effects());
    link.set(Control::Pass);
    let direct = db::pool(&database).await;
    until("the event is delivered", || async { row(&direct, "7").await.0 == "delivered" }).await;
    assert_eq!(row(&direct, "7").await, ("delivered".into(), 1, None), "no attempt was counted");
    let receipts = endpoint.journal.receipts();
    assert_eq!(receipts.iter().filter(|receipt| receipt.ordinal == Some(7)).count(), 1);
    app.stop().await;
}
