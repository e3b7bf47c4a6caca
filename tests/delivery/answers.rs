//! Responses of receivers, from regular to hostile, and the outcome of each.

use futures_util::future::join_all;
use mock_receiver::{Behavior, Framing};
use serde_json::{Value, json};

use super::{ONCE, ended, sent};
use crate::support::app::App;
use crate::support::fixture::Endpoint;
use crate::support::view::attempts;

/// Short, so that a test can wait for the timeout of a response that never ends.
const SHORT: (&str, &str) = ("HTTP_TIMEOUT", "1");
/// Far below the bytes that an endless body sends.
const RESPONSE_BYTES_MAX: &str = "100000";

/// Examples of every status class. Only 2xx means `delivered`.
const STATUSES: &[u16] = &[
    101, 200, 201, 202, 203, 204, 205, 206, 207, 226, 299, 300, 301, 302, 303, 304, 305, 307, 308,
    399, 400, 401, 402, 403, 404, 405, 408, 409, 413, 418, 421, 425, 426, 429, 431, 451, 499, 500,
    501, 502, 503, 504, 508, 511, 599, 600, 799, 999,
];

#[tokio::test]
async fn complete_2xx_delivers_and_other_statuses_are_rejected() {
    let app = App::start(&[ONCE]).await;
    let endpoint = Endpoint::start(|seen| {
        let status = seen.ordinal.and_then(|status| u16::try_from(status).ok());
        Behavior::answer(status.expect("the path contains the status"))
    })
    .await;
    let mut ids = Vec::new();
    for status in STATUSES {
        ids.push(app.accept("1", &endpoint.url(u64::from(*status))).await);
    }
    let events = STATUSES.iter().zip(&ids).map(|(status, id)| {
        let app = &app;
        async move { (*status, ended(app, id).await) }
    });
    for (status, event) in join_all(events).await {
        let good = (200..300).contains(&status);
        let expected = if good { "delivered" } else { "rejected" };
        assert_eq!(attempts(&event).len(), 1, "{status}");
        let attempt = &attempts(&event)[0];
        assert_eq!(attempt["outcome"], expected, "{status}: {event:#}");
        assert_eq!(attempt["status_code"], status);
        assert_eq!(attempt["error"], Value::Null, "{status}");
        let (end, reason) =
            if good { ("delivered", Value::Null) } else { ("dead", "exhausted".into()) };
        assert_eq!((&event["status"], &event["reason"]), (&json!(end), &reason), "{status}");
    }
    assert_eq!(endpoint.journal.receipts().len(), STATUSES.len(), "one request per attempt");
    app.stop().await;
}

#[tokio::test]
async fn status_410_ends_the_event_without_a_retry() {
    let app = App::start(&[("MAX_ATTEMPTS", "20")]).await;
    let endpoint = Endpoint::responding_with(410).await;
    let event = sent(&app, &endpoint.url(1)).await;
    assert_eq!((&event["status"], &event["reason"]), (&json!("dead"), &json!("gone")));
    assert_eq!(event["attempt_count"], 1);
    assert_eq!(attempts(&event)[0]["outcome"], "rejected");
    app.stop().await;
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let app = App::start(&[ONCE]).await;
    let elsewhere = Endpoint::responding_with(200).await;
    let location = elsewhere.url(1);
    let endpoint = Endpoint::start(move |seen| Behavior::Redirect {
        status: u16::try_from(seen.ordinal.unwrap()).unwrap(),
        location: location.clone(),
    })
    .await;
    for status in [300, 301, 302, 303, 307, 308] {
        let event = sent(&app, &endpoint.url(status)).await;
        assert_eq!(attempts(&event)[0]["outcome"], "rejected", "{event:#}");
        assert_eq!(attempts(&event)[0]["status_code"], status);
    }
    assert_eq!(elsewhere.journal.receipts(), [], "a redirect was followed");
    app.stop().await;
}

/// Each behavior with its outcome and the reason of the dead event.
fn hostile() -> Vec<(Behavior, &'static str, Value)> {
    let (hold_ms, exhausted, gone) = (60_000, json!("exhausted"), json!("gone"));
    let failing: Vec<(&str, Vec<Behavior>)> = vec![
        (
            "timeout",
            vec![
                Behavior::Hang { hold_ms },
                Behavior::HangAfterHead { status: 200, hold_ms },
                Behavior::HangAfterHead { status: 410, hold_ms },
                Behavior::Drip { status: 200, bytes: 1_000, every_ms: 50 },
                Behavior::Answer { status: 200, after_ms: 30_000, retry_after: None },
                // Only interim responses: the final response never comes.
                Behavior::answer(100),
                Behavior::answer(103),
            ],
        ),
        (
            "reset",
            vec![
                Behavior::ResetBeforeAnswer { after_ms: 0 },
                Behavior::ResetBeforeAnswer { after_ms: 50 },
                Behavior::CloseBeforeAnswer { after_ms: 0 },
                Behavior::CloseBeforeAnswer { after_ms: 50 },
            ],
        ),
        (
            "body",
            vec![
                Behavior::PartialHead,
                Behavior::ResetMidBody { status: 200 },
                Behavior::ResetMidBody { status: 410 },
                Behavior::TruncatedBody { status: 200 },
                Behavior::TruncatedBody { status: 500 },
                Behavior::BadChunking { status: 200 },
                Behavior::Garbage,
                Behavior::HeaderFlood { status: 200, bytes: 1 << 20 },
            ],
        ),
        (
            "response_too_large",
            vec![
                Behavior::EndlessBody { status: 200, framing: Framing::Chunked },
                Behavior::EndlessBody { status: 200, framing: Framing::UntilClose },
                Behavior::EndlessBody { status: 503, framing: Framing::Chunked },
            ],
        ),
    ];
    let mut all: Vec<_> = failing
        .into_iter()
        .flat_map(|(outcome, behaviors)| behaviors.into_iter().map(move |b| (b, outcome)))
        .map(|(behavior, outcome)| (behavior, outcome, exhausted.clone()))
        .collect();
    let endless = Behavior::EndlessBody { status: 410, framing: Framing::Chunked };
    all.push((endless, "response_too_large", gone));
    let fine = [
        Behavior::Drip { status: 200, bytes: 5, every_ms: 10 },
        Behavior::ResetAfterAnswer { status: 200, hold_ms: 300 },
        Behavior::HeaderFlood { status: 200, bytes: 4_096 },
    ];
    all.extend(fine.map(|behavior| (behavior, "delivered", Value::Null)));
    all
}

// All behaviors run concurrently. A receiver that hangs must not delay the other events.
#[tokio::test]
async fn every_hostile_response_gets_its_outcome_and_one_request() {
    let app = App::start(&[ONCE, SHORT, ("MAX_RESPONSE_BYTES", RESPONSE_BYTES_MAX)]).await;
    let cases = hostile();
    // Each case has a separate endpoint, so that no case reuses the connection of another.
    let mut sent = Vec::new();
    for case in &cases {
        let behavior = case.0.clone();
        let endpoint = Endpoint::start(move |_| behavior.clone()).await;
        let id = app.accept("1", &endpoint.url(1)).await;
        sent.push((case, endpoint, id));
    }
    let events = sent.iter().map(|(case, endpoint, id)| {
        let app = &app;
        async move { (*case, endpoint, ended(app, id).await) }
    });
    for ((behavior, outcome, reason), endpoint, event) in join_all(events).await {
        let attempt = &attempts(&event)[0];
        assert_eq!(attempt["outcome"], *outcome, "{behavior:?}: {event:#}");
        assert_eq!(event["reason"], *reason, "{behavior:?}: {event:#}");
        assert_eq!(attempts(&event).len(), 1, "{behavior:?}");
        let long = attempt["response"].as_str().is_some_and(|response| response.len() > 4_096);
        assert!(!long, "{behavior:?}: the snippet is too long");
        let receipts = endpoint.journal.receipts();
        assert_eq!(receipts.len(), 1, "{behavior:?}: one attempt sends one request");
        assert!(receipts[0].signature.is_valid());
    }
    app.stop().await;
}
