//! Ingest: accepted requests, refused requests with status and field, and no stored rest.
//!
//! Black-box tests over HTTP or raw sockets, against the `serve` function that the binary runs.

mod api_keys;
mod batch_route;
mod batches;
mod bodies;
mod idempotency;
mod load;
mod payload;
mod routes;
mod strangers;
mod targets;
mod unavailable;
mod upload;

use dispatcher::Role;
use insta::assert_json_snapshot;
use mock_receiver::Behavior;
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

use crate::support::app::App;
use crate::support::db;
use crate::support::fixture::Endpoint;

/// A target that gets no request, because tests with this target run no worker.
const TARGET: &str = "https://example.com/hook";

/// A valid body.
const GOOD: &str = r#"{"payload":1,"target_url":"https://example.com/hook"}"#;

/// Starts a dispatcher that accepts events and has no worker.
async fn api(own: &[(&str, &str)]) -> App {
    App::over(&db::database().await, Role::Api, own).await
}

/// Checks the form of an RFC 9457 problem and returns its members.
async fn problem(response: Response) -> Value {
    let status = response.status();
    assert_eq!(response.headers()["content-type"], "application/problem+json", "{status}");
    let body: Value = response.json().await.expect("a problem is JSON");
    assert_is_problem(&body, status);
    body
}

/// Requires the members type, title, status and detail, permits field, and refuses others.
fn assert_is_problem(body: &Value, status: StatusCode) {
    let members = body.as_object().expect("a problem is an object");
    let known = ["detail", "field", "status", "title", "type"];
    for (name, value) in members {
        assert!(known.contains(&name.as_str()), "{body}");
        let filled = value.as_str().is_some_and(|text| !text.is_empty());
        assert!(filled || name == "status", "{body}");
    }
    assert!(members.len() >= 4 && body["field"] != "", "{body}");
    assert_eq!(body["status"], status.as_u16());
}

async fn stored(app: &App) -> i64 {
    sqlx::query_scalar("select count(*) from webhook_events")
        .fetch_one(&app.pool)
        .await
        .expect("the rows can be counted")
}

#[tokio::test]
async fn responses_match_their_snapshots() {
    let app = App::start(&[("MAX_BODY_BYTES", "200"), ("BACKOFF_CAP_SECONDS", "0.05")]).await;
    let endpoint =
        Endpoint::start(|seen| Behavior::answer(if seen.arrival == 1 { 500 } else { 204 })).await;
    let body = json!({"payload": {"n": 1}, "target_url": endpoint.url(1)}).to_string();
    let accepted = app.post_with(&[("idempotency-key", "k")], body).await;
    let accepted: Value = accepted.json().await.unwrap();
    assert_json_snapshot!("accepted", accepted, {".id" => "[id]"});
    let event = app.event_with_status(accepted["id"].as_str().unwrap(), "delivered").await;
    assert_json_snapshot!("event", event, {
        ".id" => "[id]", ".target_url" => "[url]", ".created_at" => "[time]",
        ".finished_at" => "[time]", ".attempts[].started_at" => "[time]",
        ".attempts[].duration_ms" => "[ms]", ".attempts[0].next_retry_at" => "[time]",
    });

    let long = "x".repeat(200);
    let deep = format!(r#"{{"payload":{}{}}}"#, "[".repeat(129), "]".repeat(129));
    let mut problems = Vec::new();
    for body in ["not JSON", "{}", r#"{"payload":1,"target_url":7}"#, r#"{"payload":1}"#] {
        problems.push(problem(app.post(body).await).await);
    }
    problems.push(problem(app.post(json!({"payload": long}).to_string()).await).await);
    let loopback = r#"{"payload":1,"target_url":"http://10.0.0.1/"}"#;
    problems.push(problem(app.post(loopback).await).await);
    let conflict = app.post_with(&[("idempotency-key", "k")], GOOD).await;
    problems.push(problem(conflict).await);
    problems.push(problem(app.post_with(&[("idempotency-key", "a b")], GOOD).await).await);
    problems.push(problem(app.get("/events/none").await).await);
    problems.push(problem(app.get("/events").await).await);
    let plain = app.client.post(app.url("/events")).body(GOOD).send().await;
    problems.push(problem(plain.unwrap()).await);
    let mut problems = Value::from(problems);
    // The detail contains the id of the event that uses the key.
    problems[6]["detail"] = "[detail with an id]".into();
    assert_json_snapshot!("problems", problems);
    app.stop().await;

    let app = App::start(&[("API_KEYS", "a")]).await;
    problem(app.post(deep).await).await;
    let unauthorized = problem(app.get("/events/none").await).await;
    assert_json_snapshot!("unauthorized", unauthorized);
    app.stop().await;
}
