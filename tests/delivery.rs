//! How an event goes out and what becomes of it: the wire, the outcomes, the retries, and the view that tells of them.
//!
//! Black-box: receivers that play every behavior there is, and what `GET /events/{id}` says afterwards.

mod answers;
mod backoff;
mod framing;
mod network;
mod operations;
mod request;
mod retry_after;
mod shortage;
mod tls;
mod view;

use serde_json::Value;

use crate::support::app::App;
use crate::support::story;

/// One attempt, so that its outcome is the end of the event.
const ONCE: (&str, &str) = ("MAX_ATTEMPTS", "1");

/// Waits until the event has ended, and checks its story.
async fn ended(app: &App, id: &str) -> Value {
    let is_over = |event: &Value| event["status"] == "delivered" || event["status"] == "dead";
    let event = app.event_once(id, "ended", is_over).await;
    story::assert_is_consistent(&event);
    event
}

/// Sends one event and shows how it ended.
async fn sent(app: &App, target: &str) -> Value {
    let id = app.accept(r#"{"n":1}"#, target).await;
    ended(app, &id).await
}
