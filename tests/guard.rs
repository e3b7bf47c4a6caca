//! Refused target addresses: literal addresses at ingest, and every address again before the dial.
//!
//! `guard/vectors.tsv` has one case per line: `allowed` or `refused`, the host as written in a URL,
//! and a description.

mod rebinding;

use std::collections::BTreeMap;

use dispatcher::Role;
use futures_util::future::join_all;
use reqwest::Response;
use serde_json::{Value, json};

use crate::support::app::{App, id_of};
use crate::support::db;
use crate::support::fixture::Endpoint;

const VECTORS: &str = include_str!("guard/vectors.tsv");

/// Verdict and host of every case.
fn vectors() -> Vec<(&'static str, &'static str)> {
    let cases = VECTORS.lines().map(|line| {
        let mut fields = line.split('\t');
        let verdict = fields.next().expect("the line has a verdict");
        let host = fields.next().expect("the line has a host");
        assert!(fields.next().is_some_and(|about| !about.is_empty()), "{line}");
        assert!(["allowed", "refused"].contains(&verdict), "{line}");
        (verdict, host)
    });
    cases.collect()
}

async fn api(database: &str, allowed: &str) -> App {
    App::over(database, Role::Api, &[("ALLOWED_TARGET_CIDRS", allowed)]).await
}

async fn post(app: &App, target: &str) -> Response {
    app.post(json!({"payload": 1, "target_url": target}).to_string()).await
}

/// Posts the target and returns the verdict of the response.
async fn verdict(app: &App, target: &str) -> &'static str {
    let response = post(app, target).await;
    match response.status().as_u16() {
        202 => "allowed",
        422 => {
            let problem: Value = response.json().await.expect("the response is a problem");
            assert_eq!(problem["field"], "target_url");
            let detail = problem["detail"].as_str().expect("the problem has a detail");
            assert!(detail.contains("ALLOWED_TARGET_CIDRS"), "{target}: {detail}");
            "refused"
        }
        other => panic!("{target}: {other}"),
    }
}

#[tokio::test]
async fn refused_literal_returns_422_in_every_spelling() {
    let app = api(&db::database().await, "").await;
    let cases = vectors();
    assert!(cases.len() >= 60);
    let mut wrong = BTreeMap::new();
    for (expected, host) in cases {
        for target in [format!("http://{host}/hook"), format!("https://{host}:8443")] {
            let found = verdict(&app, &target).await;
            if found != expected {
                wrong.insert(target, found);
            }
        }
    }
    assert_eq!(wrong, BTreeMap::new());
    app.stop().await;
}

// The events were accepted under a setting that permits every address. The setting of the worker
// decides at the dial.
#[tokio::test]
async fn worker_dials_only_addresses_that_its_own_setting_allows() {
    let database = db::database().await;
    let wide = api(&database, "0.0.0.0/0,::/0").await;
    let mut ids = Vec::new();
    for (_, host) in vectors().into_iter().filter(|(verdict, _)| *verdict == "refused") {
        let response = post(&wide, &format!("http://{host}:9/hook")).await;
        assert_eq!(response.status(), 202, "{host}");
        ids.push(id_of(response).await);
    }
    let own = [("ALLOWED_TARGET_CIDRS", "127.99.0.0/16"), ("MAX_ATTEMPTS", "1")];
    let narrow = App::over(&database, Role::Worker, &own).await;
    for id in &ids {
        let event = wide.event_with_status(id, "dead").await;
        assert_eq!(event["reason"], "exhausted", "a refused target counts as a failure: {event:#}");
        let attempt = &event["attempts"][0];
        assert_eq!(attempt["outcome"], "target_refused", "{event:#}");
        assert_eq!(attempt["status_code"], Value::Null);
        assert_ne!(attempt["error"], Value::Null);
    }
    narrow.stop().await;
    wide.stop().await;
}

#[tokio::test]
async fn allowed_cidrs_permit_only_their_ranges() {
    let list = "10.1.0.0/16 , 127.0.0.1,169.254.169.0/25,::1/128,fd12:3456::/32";
    let app = api(&db::database().await, list).await;
    let cases = [
        ("10.0.255.255", "refused"),
        ("10.1.0.0", "allowed"),
        ("10.1.255.255", "allowed"),
        ("10.2.0.0", "refused"),
        ("127.0.0.0", "refused"),
        ("127.0.0.1", "allowed"),
        ("2130706433", "allowed"),
        ("0x7f.1", "allowed"),
        ("127.0.0.2", "refused"),
        ("169.254.169.127", "allowed"),
        ("169.254.169.254", "refused"),
        ("192.168.0.1", "refused"),
        ("[::1]", "allowed"),
        ("[::]", "refused"),
        ("[::2]", "refused"),
        ("[fd12:3456::1]", "allowed"),
        ("[fd12:3457::1]", "refused"),
        ("[fe80::1]", "refused"),
        ("[::10.1.0.1]", "refused"),
        ("[::ffff:10.1.0.1]", "refused"),
        ("[::ffff:10.2.0.1]", "refused"),
        ("[64:ff9b::10.1.0.1]", "refused"),
        ("[2002:a01:1::]", "refused"),
        ("[2001:0:4136:e378:8000:63bf:f5fe:fffe]", "refused"),
        ("[64:ff9b::192.168.0.1]", "refused"),
        ("8.8.8.8", "allowed"),
    ];
    for (host, expected) in cases {
        assert_eq!(verdict(&app, &format!("http://{host}/")).await, expected, "{host}");
    }
    app.stop().await;
}

// Ingest does not resolve names, because a name may resolve to another address at the dial.
#[tokio::test]
async fn name_with_only_refused_addresses_fails_the_attempt() {
    let own = [("ALLOWED_TARGET_CIDRS", ""), ("MAX_ATTEMPTS", "2")];
    let app = App::start(&own).await;
    let endpoint = Endpoint::responding_with(200).await;
    let port = endpoint.url(1).rsplit(':').next().unwrap().to_owned();
    let names = ["localhost", "LOCALHOST", "%6cocalhost", "ｌocalhost"];
    let events = names.map(|name| {
        let (app, target) = (&app, format!("http://{name}:{port}"));
        async move {
            let id = app.accept("1", &target).await;
            app.event_with_status(&id, "dead").await
        }
    });
    for event in join_all(events).await {
        let attempts = event["attempts"].as_array().unwrap();
        assert_eq!((attempts.len(), &event["reason"]), (2, &json!("exhausted")));
        for attempt in attempts {
            assert_eq!(attempt["outcome"], "target_refused", "{event:#}");
            let error = attempt["error"].as_str().unwrap();
            assert!(error.contains("ALLOWED_TARGET_CIDRS"), "{error}");
        }
    }
    assert_eq!(endpoint.journal.receipts(), []);
    app.stop().await;
}

// `localhost` may also resolve to ::1, which is refused here. No process listens there.
#[tokio::test]
async fn only_allowed_addresses_of_a_name_are_dialed() {
    let app = App::start(&[("MAX_ATTEMPTS", "1")]).await;
    let endpoint = Endpoint::responding_with(200).await;
    let target = endpoint.url(1).replace("127.0.0.1", "localhost");
    let id = app.accept("1", &target).await;
    app.event_with_status(&id, "delivered").await;
    app.stop().await;
}
