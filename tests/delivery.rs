//! Delivery: the request, the response, the outcome, the retry and the view of the event.
//!
//! Black-box tests: receivers play every behavior, and the tests read `GET /events/{id}` later.

mod answers;
mod backoff;
mod framing;
mod hand_off;
mod local_exhaustion;
mod network;
mod operations;
mod readiness;
mod request;
mod retry_after;
mod reuse;
mod tls;
mod view;

use serde_json::Value;

use crate::support::app::App;
use crate::support::view::assert_is_consistent;

/// With one attempt, its outcome ends the event.
const ONCE: (&str, &str) = ("MAX_ATTEMPTS", "1");

/// Waits until the event is final, checks its view for consistency and returns it.
async fn ended(app: &App, id: &str) -> Value {
    let is_over = |event: &Value| event["status"] == "delivered" || event["status"] == "dead";
    let event = app.event_where(id, "final", is_over).await;
    assert_is_consistent(&event);
    event
}

/// Posts one event and returns it when it is final.
async fn sent(app: &App, target: &str) -> Value {
    let id = app.accept(r#"{"n":1}"#, target).await;
    ended(app, &id).await
}
