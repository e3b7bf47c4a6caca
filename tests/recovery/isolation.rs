//! A target that hangs takes its own slots and no more.

use dispatcher::Role;
use mock_receiver::Behavior;
use serde_json::json;

use super::{accept, api, failures, told};
use crate::support::app::App;
use crate::support::db;
use crate::support::fixture::Endpoint;
use crate::support::story::outcomes;

// Ten times as many events hang as there are slots in all. The healthy ones are delivered while none of those has timed out,
// and those that had to step aside were handed back unburnt.
#[tokio::test]
async fn a_host_that_hangs_does_not_stop_one_that_answers() {
    let hanging = Endpoint::start(|_| Behavior::Hang { hold_ms: 600_000 }).await;
    let healthy = Endpoint::answering(200).await;
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
    super::open(&hanging, 4).await;
    let fine = accept(&api, &healthy, 40).await;
    for id in &fine {
        assert_eq!(outcomes(&told(&api, id, "delivered").await), ["delivered"]);
    }
    assert_eq!(
        hanging.journal.open_requests(),
        4,
        "never more than the cap"
    );
    assert_eq!(
        hanging.journal.receipts().len(),
        4,
        "and the same ones all the time"
    );
    for id in &stuck {
        let event = api.event(id).await;
        assert_eq!(
            (&event["status"], &event["attempts"]),
            (&json!("pending"), &json!([]))
        );
    }
    // In one snapshot: events come back for a moment, and are handed back, all the time.
    let both = "select sum(attempt_count) filter (where status = 'pending'), count(lease_token) from webhook_events";
    let (begun, leased): (i64, i64) = sqlx::query_as(both).fetch_one(&api.pool).await.unwrap();
    assert_eq!(
        begun, leased,
        "attempts are claims that were not handed back"
    );
    assert_eq!(failures(&api.pool).await, 0);
    worker.stop().await;
    api.stop().await;
}

// When the host is well again, nothing of what waited is missing.
#[tokio::test]
async fn events_that_had_to_step_aside_are_delivered_later() {
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
        let event = told(&api, id, "delivered").await;
        assert_eq!(
            (outcomes(&event), &event["attempt_count"]),
            (vec!["delivered"], &json!(1))
        );
    }
    assert_eq!(endpoint.journal.receipts().len(), 60);
    worker.stop().await;
    api.stop().await;
}
