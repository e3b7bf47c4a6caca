//! Times of retries, the number of attempts, and the failures that count.

use std::time::Duration;

use chrono::TimeDelta;
use mock_receiver::Behavior;
use serde_json::{Value, json};

use super::{ended, sent};
use crate::support::app::App;
use crate::support::fixture::Endpoint;
use crate::support::view::{attempts, outcomes, time};

// The delays are 0.2, 0.4, 0.6 and 0.6 s: doubled up to the limit. Load may lengthen a gap at the
// receiver. Nothing may shorten it.
#[tokio::test]
async fn no_attempt_starts_before_its_backoff_ends() {
    let own = [
        ("BACKOFF_BASE_SECONDS", "0.2"),
        ("BACKOFF_CAP_SECONDS", "0.6"),
        ("MAX_ATTEMPTS", "5"),
        ("WORKER_POLL_INTERVAL", "0.01"),
    ];
    let app = App::start(&own).await;
    let endpoint = Endpoint::responding_with(503).await;
    let event = sent(&app, &endpoint.url(1)).await;
    assert_eq!(outcomes(&event), ["rejected"; 5]);
    let receipts = endpoint.journal.receipts();
    let least = [200, 400, 600, 600].map(Duration::from_millis);
    for (gap, least) in receipts.windows(2).zip(least) {
        let ended = gap[0].end_us.expect("the receiver responded");
        let gap = Duration::from_micros(gap[1].head_us - ended);
        assert!(gap >= least, "gap of {gap:?}, at least {least:?} expected");
    }
    for (attempt, least) in attempts(&event).iter().zip(least) {
        let due = time(&attempt["next_retry_at"]).expect("the attempt is retried");
        let took = TimeDelta::milliseconds(attempt["duration_ms"].as_i64().unwrap());
        let wait = due - (time(&attempt["started_at"]).unwrap() + took);
        assert!(
            wait >= TimeDelta::from_std(least).unwrap(),
            "wait of {wait}, at least {least:?} expected"
        );
    }
    app.stop().await;
}

// Twenty delays of at least 100 s: each lies in [d, 1.25 d], and they differ.
#[tokio::test]
async fn jitter_adds_at_most_a_quarter_of_the_delay() {
    let own = [("BACKOFF_BASE_SECONDS", "100"), ("BACKOFF_CAP_SECONDS", "100")];
    let app = App::start(&own).await;
    let endpoint = Endpoint::responding_with(500).await;
    let mut waits = Vec::new();
    for ordinal in 0..20 {
        let id = app.accept("1", &endpoint.url(ordinal)).await;
        let event = app.event_where(&id, "attempted", |event| !attempts(event).is_empty()).await;
        assert_eq!(event["next_retry_at"], attempts(&event)[0]["next_retry_at"]);
        let due = time(&event["next_retry_at"]).unwrap();
        waits.push((due - time(&attempts(&event)[0]["started_at"]).unwrap()).num_seconds());
    }
    // A few seconds for the attempt and its settle on a busy machine.
    assert!(waits.iter().all(|wait| (100..=125 + 10).contains(wait)), "{waits:?}");
    let (least, most) = (waits.iter().min().unwrap(), waits.iter().max().unwrap());
    assert!(most - least >= 5, "no jitter: {waits:?}");
    app.stop().await;
}

#[tokio::test]
async fn event_is_dead_after_max_attempts_failures() {
    for most in [1, 2, 7] {
        let app = App::start(&[("MAX_ATTEMPTS", &most.to_string())]).await;
        let endpoint = Endpoint::responding_with(500).await;
        let event = sent(&app, &endpoint.url(1)).await;
        assert_eq!((&event["status"], &event["reason"]), (&json!("dead"), &json!("exhausted")));
        assert_eq!((attempts(&event).len(), &event["attempt_count"]), (most, &json!(most)));
        assert_eq!(event["next_retry_at"], Value::Null);
        app.stop().await;
        assert_eq!(endpoint.journal.receipts().len(), most);
    }
}

#[tokio::test]
async fn success_after_failures_ends_the_event() {
    let app = App::start(&[("MAX_ATTEMPTS", "6")]).await;
    let endpoint = Endpoint::start(|seen| match seen.arrival {
        1 => Behavior::answer(500),
        2 => Behavior::CloseBeforeAnswer { after_ms: 0 },
        3 => Behavior::Garbage,
        4 => Behavior::answer(302),
        5 => Behavior::answer(404),
        _ => Behavior::answer(204),
    })
    .await;
    let event = sent(&app, &endpoint.url(1)).await;
    let expected = ["rejected", "reset", "body", "rejected", "rejected", "delivered"];
    assert_eq!(outcomes(&event), expected);
    assert_eq!((&event["status"], &event["reason"]), (&json!("delivered"), &Value::Null));
    app.stop().await;
    assert_eq!(endpoint.journal.receipts().len(), 6);
}

// All events end long before the first poll, so due times and wake-ups start the attempts.
#[tokio::test]
async fn long_poll_interval_does_not_delay_retries() {
    let app = App::start(&[("WORKER_POLL_INTERVAL", "3600"), ("MAX_ATTEMPTS", "3")]).await;
    let endpoint = Endpoint::responding_with(500).await;
    for ordinal in 0..3 {
        let id = app.accept("1", &endpoint.url(ordinal)).await;
        assert_eq!(ended(&app, &id).await["reason"], "exhausted");
    }
    app.stop().await;
}
