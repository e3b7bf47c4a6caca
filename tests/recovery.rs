//! What a stop, a kill, a pause and a crowd of workers do to events: none is lost, none is burnt, and what is sent twice is
//! what was under way.

mod isolation;
mod kills;
mod silence;
mod stops;

use std::collections::BTreeMap;

use dispatcher::Role;
use serde_json::Value;
use sqlx::PgPool;

use crate::support::app::{App, until};
use crate::support::db;
use crate::support::fixture::Endpoint;
use crate::support::story;

/// No attempt and no lease of these ends by its time within a test: what ends them is something else.
const ENDLESS: &[(&str, &str)] = &[("HTTP_TIMEOUT", "300"), ("LEASE_SECONDS", "600")];

/// Takes events over a database and sends none.
async fn api(database: &str) -> App {
    App::over(database, Role::Api, &[]).await
}

/// Accepts so many events, each for a path of its own.
async fn accept(api: &App, endpoint: &Endpoint, count: u64) -> Vec<String> {
    let mut ids = Vec::new();
    for ordinal in 0..count {
        ids.push(
            api.accept(&ordinal.to_string(), &endpoint.url(ordinal))
                .await,
        );
    }
    ids
}

/// Waits until so many requests are open at the receiver.
async fn open(endpoint: &Endpoint, count: usize) {
    until("the requests are at the receiver", || async {
        endpoint.journal.open_requests() == count
    })
    .await;
}

/// Waits until the event has the status, and checks its story.
async fn told(api: &App, id: &str, status: &str) -> Value {
    let event = api.event_when(id, status).await;
    story::assert_is_consistent(&event);
    event
}

/// How often each event came to the receiver, properly signed.
fn arrivals(endpoint: &Endpoint) -> BTreeMap<String, usize> {
    let mut arrivals = BTreeMap::new();
    for receipt in endpoint.journal.receipts() {
        assert!(receipt.signature.is_valid(), "{receipt:?}");
        *arrivals
            .entry(receipt.webhook_id.expect("it is signed"))
            .or_default() += 1;
    }
    arrivals
}

/// Leases that anybody holds.
async fn leases(pool: &PgPool) -> i64 {
    sqlx::query_scalar("select count(*) from webhook_events where lease_token is not null")
        .fetch_one(pool)
        .await
        .expect("a count")
}

/// Settled failures that count against events.
async fn failures(pool: &PgPool) -> i64 {
    sqlx::query_scalar("select coalesce(sum(failure_count), 0) from webhook_events")
        .fetch_one(pool)
        .await
        .expect("a sum")
}

// Every event must be handed out once although two processes want all of them.
#[tokio::test]
async fn two_processes_over_one_database_send_each_event_once() {
    let database = db::database().await;
    let endpoint = Endpoint::answering(200).await;
    let one = App::over(&database, Role::Serve, &[]).await;
    let other = App::over(&database, Role::Serve, &[]).await;
    let mut ids = Vec::new();
    for ordinal in 0..200 {
        let app = if ordinal % 2 == 0 { &one } else { &other };
        ids.push(app.accept("1", &endpoint.url(ordinal)).await);
    }
    for id in &ids {
        let event = told(&other, id, "delivered").await;
        assert_eq!(
            (story::outcomes(&event), &event["attempt_count"]),
            (vec!["delivered"], &1.into())
        );
    }
    let arrivals = arrivals(&endpoint);
    assert_eq!(arrivals.len(), 200);
    assert!(arrivals.values().all(|count| *count == 1), "{arrivals:?}");
    one.stop().await;
    other.stop().await;
}
