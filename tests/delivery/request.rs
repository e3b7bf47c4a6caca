//! The request that a receiver gets: method, path, headers, exact bytes and signature.
//!
//! The crate `standardwebhooks` verifies the signatures, independently of the project's code.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use dispatcher::Role;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use standardwebhooks::Webhook;

use super::{ONCE, ended, sent};
use crate::support::app::App;
use crate::support::db;
use crate::support::fixture::Endpoint;
use crate::support::raw::{Captured, RawReceiver};
use crate::support::view::outcomes;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
const FIRST: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const SECOND: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

/// The headers that the verification reads.
fn signed(request: &Captured) -> HeaderMap {
    let names = ["webhook-id", "webhook-timestamp", "webhook-signature"];
    let headers = names.map(|name| {
        let value = request.header(name).expect("the request has the header");
        let value = HeaderValue::from_str(value).expect("the value is a valid header");
        (HeaderName::from_static(name), value)
    });
    headers.into_iter().collect()
}

fn verifies(webhook: &Webhook, request: &Captured) -> bool {
    webhook.verify(&request.body, &signed(request)).is_ok()
}

#[tokio::test]
async fn request_is_one_post_with_only_the_documented_headers() {
    let app = App::start(&[ONCE]).await;
    let receiver = RawReceiver::responding_with(OK).await;
    let target = format!("http://{}/a%20b/c?x=1&y=%C3%A9&&z#part", receiver.address);
    let payload = "{\"b\" : 1.0,\n\"a\":\"\\u00e9 é\"}";
    let id = app.accept(payload, &target).await;
    let event = ended(&app, &id).await;
    assert_eq!(event["target_url"], target, "the view contains the fragment");

    let requests = receiver.requests();
    assert_eq!(requests.len(), 1);
    let request = &requests[0];
    let line = request.head.lines().next().unwrap();
    assert_eq!(
        line, "POST /a%20b/c?x=1&y=%C3%A9&&z HTTP/1.1",
        "the request line contains no fragment"
    );
    assert_eq!(request.body, payload.as_bytes());
    let host = receiver.address.to_string();
    let length = payload.len().to_string();
    let expected = [
        ("host", host.as_str()),
        ("content-type", "application/json"),
        ("content-length", &length),
        ("webhook-id", &id),
        ("webhook-attempt", "1"),
    ];
    for (name, value) in expected {
        assert_eq!(request.header(name), Some(value), "{name}");
    }
    assert!(request.header("user-agent").unwrap().starts_with("webhook-dispatcher/"));
    let mut names: Vec<_> =
        request.head.lines().skip(1).filter_map(|l| l.split_once(':')).collect();
    names.sort_unstable();
    let names: Vec<_> = names.into_iter().map(|(name, _)| name.to_lowercase()).collect();
    let all = [
        "accept",
        "content-length",
        "content-type",
        "host",
        "user-agent",
        "webhook-attempt",
        "webhook-id",
        "webhook-signature",
        "webhook-timestamp",
    ];
    assert_eq!(names, all, "no accept-encoding, no version of the dispatcher");
    app.stop().await;
}

// A receiver may have signed the query. `dispatcher/src/target.rs` tests the other characters.
#[tokio::test]
async fn legal_path_and_query_are_sent_byte_for_byte() {
    let app = App::start(&[ONCE]).await;
    let receiver = RawReceiver::responding_with(OK).await;
    let given = [
        "/a?sig=a-b_c~d%2B%3D&name=O'Brien",
        "/%7Euser/%2e%2E/a/../b//c",
        "//a;v=1,2/b@c:d!$&()*+",
        "/a??x=%zz&",
        "/a?",
    ];
    for path in given {
        sent(&app, &format!("http://{}{path}", receiver.address)).await;
    }
    let requests = receiver.requests();
    let lines = requests.iter().map(|request| request.head.lines().next());
    let lines: Vec<_> = lines.map(Option::unwrap).collect();
    assert_eq!(lines, given.map(|path| format!("POST {path} HTTP/1.1")));
    app.stop().await;
}

#[tokio::test]
async fn every_attempt_has_a_new_signature_and_the_same_id() {
    let app = App::start(&[("BACKOFF_BASE_SECONDS", "1"), ("BACKOFF_CAP_SECONDS", "1")]).await;
    let receiver = RawReceiver::start(|number| {
        let status = if number < 3 { "500 No" } else { "200 OK" };
        format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").into()
    })
    .await;
    let event = sent(&app, &receiver.url()).await;
    assert_eq!(outcomes(&event), ["rejected", "rejected", "delivered"]);

    let webhook = Webhook::new(FIRST).unwrap();
    let requests = receiver.requests();
    let seen = |name: &str| -> Vec<_> {
        requests.iter().map(|request| request.header(name).unwrap().to_owned()).collect()
    };
    assert_eq!(seen("webhook-attempt"), ["1", "2", "3"]);
    assert_eq!(seen("webhook-id"), vec![event["id"].as_str().unwrap(); 3]);
    let times: Vec<i64> = seen("webhook-timestamp").iter().map(|t| t.parse().unwrap()).collect();
    assert!(
        times.windows(2).all(|pair| pair[0] < pair[1]),
        "each attempt has a later timestamp: {times:?}"
    );
    let now = chrono::Utc::now().timestamp();
    assert!(times.iter().all(|time| (now - 60..=now + 1).contains(time)), "{times:?}, now {now}");
    assert!(requests.iter().all(|request| verifies(&webhook, request)));

    // The verification must also reject a changed body and a wrong secret.
    let mut forged = requests[0].clone();
    forged.body.push(b' ');
    assert!(!verifies(&webhook, &forged));
    assert!(!verifies(&Webhook::new(SECOND).unwrap(), &requests[0]));
    app.stop().await;
}

#[tokio::test]
async fn every_secret_signs_during_a_rotation() {
    let secrets = format!("{FIRST} , {SECOND},plain text é");
    let app = App::start(&[ONCE, ("WEBHOOK_SECRET", &secrets)]).await;
    let receiver = RawReceiver::responding_with(OK).await;
    sent(&app, &receiver.url()).await;
    let request = &receiver.requests()[0];
    let plain = Webhook::from_bytes("plain text é".as_bytes().to_vec()).unwrap();
    for webhook in [Webhook::new(FIRST).unwrap(), Webhook::new(SECOND).unwrap(), plain] {
        assert!(verifies(&webhook, request));
    }
    let entries: Vec<_> = request.header("webhook-signature").unwrap().split(' ').collect();
    assert_eq!(entries.len(), 3);
    for entry in entries {
        let signature = BASE64_STANDARD.decode(entry.strip_prefix("v1,").unwrap()).unwrap();
        assert_eq!(signature.len(), 32, "length of an HMAC-SHA256");
    }
    app.stop().await;
}

#[tokio::test]
async fn changed_secret_signs_the_next_attempt() {
    let database = db::database().await;
    let before = [("BACKOFF_BASE_SECONDS", "0.2"), ("WEBHOOK_SECRET", "before")];
    let app = App::over(&database, Role::Serve, &before).await;
    let receiver = RawReceiver::start(|number| {
        let status = if number == 1 { "500 No" } else { "200 OK" };
        format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").into()
    })
    .await;
    let id = app.accept("1", &receiver.url()).await;
    app.event_where(&id, "tried", |event| event["attempts"] != serde_json::json!([])).await;
    app.stop().await;
    let after = [("WEBHOOK_SECRET", "after")];
    let app = App::over(&database, Role::Serve, &after).await;
    ended(&app, &id).await;
    let last = receiver.requests().pop().unwrap();
    assert!(verifies(&Webhook::from_bytes(b"after".to_vec()).unwrap(), &last));
    app.stop().await;
}

// A payload is any JSON, so the signed bytes may be any text.
#[tokio::test]
async fn signature_covers_the_sent_bytes_of_any_payload() {
    let app = App::start(&[ONCE]).await;
    let receiver = RawReceiver::responding_with(OK).await;
    let large = format!("\"{}\"", "x".repeat(300_000));
    for payload in ["null", "\"\"", "\"\\u0000\"", "[\r\n]", "\"é😀\u{2028}\"", &large] {
        let id = app.accept(payload, &receiver.url()).await;
        ended(&app, &id).await;
    }
    let webhook = Webhook::new(FIRST).unwrap();
    let requests = receiver.requests();
    assert_eq!(requests.len(), 6);
    assert!(requests.iter().all(|request| verifies(&webhook, request)));
    app.stop().await;
}

#[tokio::test]
async fn each_event_arrives_only_at_its_target() {
    let app = App::start(&[ONCE]).await;
    let endpoint = Endpoint::responding_with(200).await;
    let mut ids = Vec::new();
    for ordinal in 0..20 {
        ids.push(app.accept(&ordinal.to_string(), &endpoint.url(ordinal)).await);
    }
    for id in &ids {
        assert_eq!(ended(&app, id).await["status"], "delivered");
    }
    for (ordinal, id) in (0..).zip(&ids) {
        let receipts = endpoint.journal.receipts();
        let received: Vec<_> = receipts.iter().filter(|r| r.ordinal == Some(ordinal)).collect();
        assert_eq!(received.len(), 1, "number of requests at the target {ordinal}");
        assert_eq!(received[0].webhook_id.as_deref(), Some(id.as_str()));
    }
    app.stop().await;
}
