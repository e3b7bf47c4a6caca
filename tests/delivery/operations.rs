//! Health, readiness, metrics and log: the parts that an operator sees.

use std::collections::BTreeMap;

use chaos::system::System;
use dispatcher::Role;
use mock_receiver::Behavior;
use serde_json::Value;

use super::sent;
use crate::support::app::{App, WAIT_MAX, until};
use crate::support::db;
use crate::support::fixture::Endpoint;
use crate::support::process::Processes;
use crate::support::view::{attempts, outcomes};

/// The samples of `/metrics` by name and labels.
pub(super) async fn samples(app: &App) -> BTreeMap<String, f64> {
    let response = app.get("/metrics").await;
    assert_eq!(response.status(), 200);
    let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
    assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
    let text = response.text().await.unwrap();
    assert!(text.ends_with("# EOF\n"), "{text}");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let samples = lines.map(|line| {
        let (name, value) = line.rsplit_once(' ').expect("the line is a sample");
        (name.to_owned(), value.parse().expect("the sample is a number"))
    });
    samples.collect()
}

fn value(samples: &BTreeMap<String, f64>, name: &str) -> f64 {
    samples.get(name).copied().unwrap_or_default()
}

#[tokio::test]
async fn metrics_count_attempts_by_outcome_and_dead_events_by_reason() {
    let app = App::start(&[("MAX_ATTEMPTS", "2")]).await;
    let endpoint = Endpoint::start(|seen| match seen.ordinal {
        Some(1) => Behavior::answer(200),
        Some(2) => Behavior::answer(410),
        Some(3) => Behavior::CloseBeforeAnswer { after_ms: 0 },
        _ => Behavior::answer(500),
    })
    .await;
    for ordinal in 1..=4 {
        sent(&app, &endpoint.url(ordinal)).await;
    }
    app.post("not JSON").await;
    let expected = [
        ("webhook_attempts_total{outcome=\"delivered\"}", 1),
        ("webhook_attempts_total{outcome=\"rejected\"}", 3),
        ("webhook_attempts_total{outcome=\"reset\"}", 2),
        ("webhook_dead_events_total{reason=\"gone\"}", 1),
        ("webhook_dead_events_total{reason=\"exhausted\"}", 2),
        ("webhook_accepts_total{status=\"202\"}", 4),
        ("webhook_accepts_total{status=\"400\"}", 1),
        ("webhook_attempt_duration_seconds_count", 6),
        ("webhook_accept_duration_seconds_count", 5),
        ("webhook_claims_total", 6),
        ("webhook_lost_leases_total", 0),
        ("webhook_attempts_in_flight", 0),
        ("webhook_due_events", 0),
    ];
    // The counters change after the reply to the settle, so the view may be ahead of them.
    until("all counters have their final value", || async {
        let samples = samples(&app).await;
        expected.iter().all(|(name, count)| value(&samples, name) == f64::from(*count))
    })
    .await;
    app.stop().await;
}

#[tokio::test]
async fn metrics_read_backlog_from_postgres_and_in_flight_from_worker() {
    let database = db::database().await;
    let endpoint = Endpoint::start(|_| Behavior::Hang { hold_ms: 120_000 }).await;
    let api = App::over(&database, Role::Api, &[]).await;
    for ordinal in 0..5 {
        api.accept("1", &endpoint.url(ordinal)).await;
    }
    // A process reads its gauges every 5 s, and has none after a failed read.
    until("the backlog is reported", || async {
        let samples = samples(&api).await;
        let age = samples.get("webhook_oldest_due_age_seconds");
        samples.get("webhook_due_events") == Some(&5.0) && age.is_some_and(|age| *age > 0.0)
    })
    .await;
    let own = [("HTTP_TIMEOUT", "60"), ("SHUTDOWN_SECONDS", "0.2")];
    let worker = App::over(&database, Role::Worker, &own).await;
    until("all attempts are in flight", || async {
        let samples = samples(&worker).await;
        samples.get("webhook_attempts_in_flight") == Some(&5.0)
            && samples.get("webhook_due_events") == Some(&0.0)
    })
    .await;
    until("another process reports the same backlog", || async {
        samples(&api).await.get("webhook_due_events") == Some(&0.0)
    })
    .await;
    worker.stop().await;
    api.stop().await;
}

#[tokio::test]
async fn readyz_returns_503_if_the_schema_is_not_current() {
    let app = App::start(&[]).await;
    assert_eq!(app.get("/livez").await.status(), 200);
    assert_eq!(app.get("/readyz").await.status(), 200);
    let forget = "delete from _sqlx_migrations
        where version = (select max(version) from _sqlx_migrations)";
    sqlx::query(forget).execute(&app.pool).await.unwrap();
    assert_eq!(app.get("/readyz").await.status(), 503);
    assert_eq!(app.get("/livez").await.status(), 200);
    app.stop().await;
}

// Operators query the tables directly, so the names of tables and keys belong to the contract.
#[tokio::test]
async fn tables_agree_with_the_view() {
    let app = App::start(&[("MAX_ATTEMPTS", "3")]).await;
    let endpoint = Endpoint::responding_with(500).await;
    let event = sent(&app, &endpoint.url(1)).await;
    let id: uuid::Uuid = event["id"].as_str().unwrap().parse().unwrap();
    let (status, reason, count): (String, String, i32) =
        sqlx::query_as("select status, reason, attempt_count from webhook_events where id = $1")
            .bind(id)
            .fetch_one(&app.pool)
            .await
            .unwrap();
    assert_eq!((status.as_str(), reason.as_str(), count), ("dead", "exhausted", 3));
    let rows = "select number, outcome from delivery_attempts where event_id = $1 order by number";
    let rows: Vec<(i32, String)> =
        sqlx::query_as(rows).bind(id).fetch_all(&app.pool).await.unwrap();
    let seen = attempts(&event)
        .iter()
        .zip(1..)
        .map(|(attempt, number)| (number, attempt["outcome"].as_str().unwrap().to_owned()));
    assert_eq!(rows, seen.collect::<Vec<_>>());
    app.stop().await;
}

// With the most verbose log, and with proxy variables that the process must ignore.
#[tokio::test]
async fn json_log_has_a_line_per_attempt_and_no_secret() {
    let database = db::database().await;
    let endpoint =
        Endpoint::start(|seen| Behavior::answer(if seen.arrival == 1 { 500 } else { 200 })).await;
    let api = App::over(&database, Role::Api, &[]).await;
    let mut processes = Processes::plain();
    let closed_port = "http://127.0.0.1:9";
    let own = [
        ("LOG", "debug,dispatcher=trace"),
        ("LOG_FORMAT", "json"),
        ("HTTP_PROXY", closed_port),
        ("http_proxy", closed_port),
        ("ALL_PROXY", closed_port),
    ];
    processes.start("verbose", &database, &own).await;
    let payload = "\"a-word-of-the-payload\"";
    let id = api.accept(payload, &endpoint.url(1)).await;
    let event = super::ended(&api, &id).await;
    assert_eq!(outcomes(&event), ["rejected", "delivered"], "{event:#}");
    processes.system.terminate("verbose", WAIT_MAX).await.unwrap();

    let log = processes.log("verbose");
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}")))
        .collect();
    for outcome in ["rejected", "delivered"] {
        let is_attempt = |line: &&Value| {
            let line = line.to_string();
            line.contains(&id) && line.contains(&format!("\"outcome\":\"{outcome}\""))
        };
        assert_eq!(lines.iter().filter(is_attempt).count(), 1, "{outcome}: {log}");
    }
    for secret in ["a-word-of-the-payload", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "v1,"] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
    api.stop().await;
}
