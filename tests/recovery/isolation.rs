//! A target that hangs uses only the permits of its own host.

use dispatcher::Role;
use mock_receiver::Behavior;
use serde_json::json;

use super::{accept, api, event_with, failures};
use crate::support::app::App;
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
        assert_eq!(
            outcomes(&event_with(&api, id, "delivered").await),
            ["delivered"]
        );
    }
    assert_eq!(
        hanging.journal.open_requests(),
        4,
        "open requests at the hanging host"
    );
    assert_eq!(
        hanging.journal.receipts().len(),
        4,
        "requests to the hanging host in total"
    );
    for id in &stuck {
        let event = api.event(id).await;
        assert_eq!(
            (&event["status"], &event["attempts"]),
            (&json!("pending"), &json!([]))
        );
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
    let endpoint = Endpoint::start(|_| Behavior::Answer {
        status: 200,
        after_ms: 20,
        retry_after: None,
    })
    .await;
    let database = db::database().await;
    let api = api(&database).await;
    let ids = accept(&api, &endpoint, 60).await;
    let worker = App::over(&database, Role::Worker, &[("MAX_IN_FLIGHT_PER_HOST", "1")]).await;
    for id in &ids {
        let event = event_with(&api, id, "delivered").await;
        assert_eq!(
            (outcomes(&event), &event["attempt_count"]),
            (vec!["delivered"], &json!(1))
        );
    }
    assert_eq!(endpoint.journal.receipts().len(), 60);
    worker.stop().await;
    api.stop().await;
}
