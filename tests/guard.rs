//! Where nothing may be sent: at ingest for literal addresses, at connect for names and for whatever was accepted before.
//!
//! `guard/vectors.tsv` has a line a case: `allowed` or `refused`, the host as it is written in a URL, and what it is.

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
        let verdict = fields.next().expect("a verdict");
        let host = fields.next().expect("a host");
        assert!(
            fields.next().is_some_and(|about| !about.is_empty()),
            "{line}"
        );
        assert!(["allowed", "refused"].contains(&verdict), "{line}");
        (verdict, host)
    });
    cases.collect()
}

async fn api(database: &str, allowed: &str) -> App {
    App::over(database, Role::Api, &[("ALLOWED_TARGET_CIDRS", allowed)]).await
}

async fn post(app: &App, target: &str) -> Response {
    app.post(json!({"payload": 1, "target_url": target}).to_string())
        .await
}

/// What became of a target at ingest.
async fn verdict(app: &App, target: &str) -> &'static str {
    let answer = post(app, target).await;
    match answer.status().as_u16() {
        202 => "allowed",
        422 => {
            let problem: Value = answer.json().await.expect("a problem");
            assert_eq!(problem["field"], "target_url");
            let detail = problem["detail"].as_str().expect("words");
            assert!(
                detail.contains("ALLOWED_TARGET_CIDRS"),
                "{target}: {detail}"
            );
            "refused"
        }
        other => panic!("{target}: {other}"),
    }
}

#[tokio::test]
async fn a_literal_in_a_refused_range_is_422_however_it_is_spelt() {
    let app = api(&db::database().await, "").await;
    let cases = vectors();
    assert!(cases.len() >= 60);
    let mut wrong = BTreeMap::new();
    for (expected, host) in cases {
        for target in [
            format!("http://{host}/hook"),
            format!("https://{host}:8443"),
        ] {
            let found = verdict(&app, &target).await;
            if found != expected {
                wrong.insert(target, found);
            }
        }
    }
    assert_eq!(wrong, BTreeMap::new());
    app.stop().await;
}

// The same cases, accepted while the list allowed everything: the worker's list is what counts when it dials.
#[tokio::test]
async fn what_was_accepted_under_a_wider_list_is_not_dialled_under_a_narrower_one() {
    let database = db::database().await;
    let wide = api(&database, "0.0.0.0/0,::/0").await;
    let mut ids = Vec::new();
    for (_, host) in vectors()
        .into_iter()
        .filter(|(verdict, _)| *verdict == "refused")
    {
        let answer = post(&wide, &format!("http://{host}:9/hook")).await;
        assert_eq!(answer.status(), 202, "{host}");
        ids.push(id_of(answer).await);
    }
    let own = [
        ("ALLOWED_TARGET_CIDRS", "127.99.0.0/16"),
        ("MAX_ATTEMPTS", "1"),
    ];
    let narrow = App::over(&database, Role::Worker, &own).await;
    for id in &ids {
        let event = wide.event_when(id, "dead").await;
        assert_eq!(
            event["reason"], "exhausted",
            "it counts like any failure: {event:#}"
        );
        let attempt = &event["attempts"][0];
        assert_eq!(attempt["outcome"], "target_refused", "{event:#}");
        assert_eq!(attempt["status_code"], Value::Null);
        assert_ne!(attempt["error"], Value::Null);
    }
    narrow.stop().await;
    wide.stop().await;
}

#[tokio::test]
async fn the_list_opens_what_it_names_and_nothing_beside_it() {
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
        assert_eq!(
            verdict(&app, &format!("http://{host}/")).await,
            expected,
            "{host}"
        );
    }
    app.stop().await;
}

// A name is none of ingest's business: who knows what it resolves to when it is dialled.
#[tokio::test]
async fn a_name_that_resolves_to_a_refused_address_alone_is_a_failed_attempt() {
    let own = [("ALLOWED_TARGET_CIDRS", ""), ("MAX_ATTEMPTS", "2")];
    let app = App::start(&own).await;
    let endpoint = Endpoint::answering(200).await;
    let port = endpoint.url(1).rsplit(':').next().unwrap().to_owned();
    let names = ["localhost", "LOCALHOST", "%6cocalhost", "ｌocalhost"];
    let events = names.map(|name| {
        let (app, target) = (&app, format!("http://{name}:{port}"));
        async move {
            let id = app.accept("1", &target).await;
            app.event_when(&id, "dead").await
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

// `localhost` may stand for ::1 as well, which is not allowed here and where nobody listens.
#[tokio::test]
async fn of_the_addresses_of_a_name_the_allowed_ones_are_dialled() {
    let app = App::start(&[("MAX_ATTEMPTS", "1")]).await;
    let endpoint = Endpoint::answering(200).await;
    let target = endpoint.url(1).replace("127.0.0.1", "localhost");
    let id = app.accept("1", &target).await;
    app.event_when(&id, "delivered").await;
    app.stop().await;
}
