//! What comes in, as the contract has it: what is taken, what is refused and how, and that what was refused left no trace.
//!
//! Black-box: over HTTP or plain sockets, against the wiring that the binary runs.

mod api_keys;
mod bodies;
mod crowds;
mod idempotency;
mod payload;
mod routes;
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

/// Where nothing is ever sent: no test that has it taken runs a worker.
const TARGET: &str = "https://example.com/hook";

/// A body that would be taken as it is.
const GOOD: &str = r#"{"payload":1,"target_url":"https://example.com/hook"}"#;

/// Takes events and sends none.
async fn api(own: &[(&str, &str)]) -> App {
    App::over(&db::database().await, Role::Api, own).await
}

/// The members of a problem, after its form was checked.
async fn problem(answer: Response) -> Value {
    let status = answer.status();
    assert_eq!(
        answer.headers()["content-type"],
        "application/problem+json",
        "{status}"
    );
    let body: Value = answer.json().await.expect("a problem is JSON");
    assert_is_problem(&body, status);
    body
}

/// `{"type", "title", "status", "detail", "field"?}` and nothing else.
fn assert_is_problem(body: &Value, status: StatusCode) {
    let members = body.as_object().expect("an object");
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
        .expect("a count")
}

#[tokio::test]
async fn the_answers_of_the_api_are_what_they_were() {
    let app = App::start(&[("MAX_BODY_BYTES", "200"), ("BACKOFF_CAP_SECONDS", "0.05")]).await;
    let endpoint =
        Endpoint::start(|seen| Behavior::answer(if seen.arrival == 1 { 500 } else { 204 })).await;
    let body = json!({"payload": {"n": 1}, "target_url": endpoint.url(1)}).to_string();
    let accepted = app.post_with(&[("idempotency-key", "k")], body).await;
    let accepted: Value = accepted.json().await.unwrap();
    assert_json_snapshot!("accepted", accepted, {".id" => "[id]"});
    let event = app
        .event_when(accepted["id"].as_str().unwrap(), "delivered")
        .await;
    assert_json_snapshot!("event", event, {
        ".id" => "[id]", ".target_url" => "[url]", ".created_at" => "[time]",
        ".finished_at" => "[time]", ".attempts[].started_at" => "[time]",
        ".attempts[].duration_ms" => "[ms]", ".attempts[0].next_retry_at" => "[time]",
    });

    let long = "x".repeat(200);
    let deep = format!(r#"{{"payload":{}{}}}"#, "[".repeat(129), "]".repeat(129));
    let mut problems = Vec::new();
    for body in [
        "no JSON",
        "{}",
        r#"{"payload":1,"target_url":7}"#,
        r#"{"payload":1}"#,
    ] {
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
    // The id of the event that holds the key.
    problems[6]["detail"] = "[detail with an id]".into();
    assert_json_snapshot!("problems", problems);
    app.stop().await;

    let app = App::start(&[("API_KEYS", "a")]).await;
    problem(app.post(deep).await).await;
    let unauthorized = problem(app.get("/events/none").await).await;
    assert_json_snapshot!("unauthorized", unauthorized);
    app.stop().await;
}
