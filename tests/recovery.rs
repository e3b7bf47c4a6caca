//! Stops, kills, pauses and concurrent workers: no event is lost, no attempt is wasted, and only
//! events that were in flight are sent again.

mod isolation;
mod kills;
mod silent_dns;
mod stops;

use std::collections::BTreeMap;

use dispatcher::Role;
use serde_json::Value;
use sqlx::PgPool;

use crate::support::app::{App, until};
use crate::support::db;
use crate::support::fixture::Endpoint;
use crate::support::view;

/// Longer than any test, so that no attempt times out and no lease expires.
const ENDLESS: &[(&str, &str)] = &[("HTTP_TIMEOUT", "300"), ("LEASE_SECONDS", "600")];

/// Starts a dispatcher that accepts events and delivers none.
async fn api(database: &str) -> App {
    App::over(database, Role::Api, &[]).await
}

/// Posts `count` events, each to a separate path.
async fn accept(api: &App, endpoint: &Endpoint, count: u64) -> Vec<String> {
    let mut ids = Vec::new();
    for ordinal in 0..count {
        ids.push(api.accept(&ordinal.to_string(), &endpoint.url(ordinal)).await);
    }
    ids
}

/// Waits until `count` requests are open at the receiver.
async fn wait_for_open(endpoint: &Endpoint, count: usize) {
    until("the requests are at the receiver", || async {
        endpoint.journal.open_requests() == count
    })
    .await;
}

/// Waits until the event has the status, checks its view for consistency and returns it.
async fn event_with(api: &App, id: &str, status: &str) -> Value {
    let event = api.event_with_status(id, status).await;
    view::assert_is_consistent(&event);
    event
}

/// Number of requests per event. Every request must have a valid signature.
fn arrivals(endpoint: &Endpoint) -> BTreeMap<String, usize> {
    let mut arrivals = BTreeMap::new();
    for receipt in endpoint.journal.receipts() {
        assert!(receipt.signature.is_valid(), "{receipt:?}");
        *arrivals.entry(receipt.webhook_id.expect("the request has an id")).or_default() += 1;
    }
    arrivals
}

/// Number of leased events.
async fn leases(pool: &PgPool) -> i64 {
    sqlx::query_scalar("select count(*) from webhook_events where lease_token is not null")
        .fetch_one(pool)
        .await
        .expect("the leases can be counted")
}

/// Sum of the failure counts of all events.
async fn failures(pool: &PgPool) -> i64 {
    sqlx::query_scalar("select coalesce(sum(failure_count), 0) from webhook_events")
        .fetch_one(pool)
        .await
        .expect("the failures can be added up")
}

// Both processes claim from all events. Each event must be sent by one of them.
#[tokio::test]
async fn two_processes_send_each_event_without_duplicates() {
    let database = db::database().await;
    let endpoint = Endpoint::responding_with(200).await;
    let one = App::over(&database, Role::Serve, &[]).await;
    let other = App::over(&database, Role::Serve, &[]).await;
    let mut ids = Vec::new();
    for ordinal in 0..200 {
        let app = if ordinal % 2 == 0 { &one } else { &other };
        ids.push(app.accept("1", &endpoint.url(ordinal)).await);
    }
    for id in &ids {
        let event = event_with(&other, id, "delivered").await;
        assert_eq!(
            (view::outcomes(&event), &event["attempt_count"]),
            (vec!["delivered"], &1.into())
        );
    }
    let arrivals = arrivals(&endpoint);
    assert_eq!(arrivals.len(), 200);
    assert!(arrivals.values().all(|count| *count == 1), "{arrivals:?}");
    one.stop().await;
    other.stop().await;
}
