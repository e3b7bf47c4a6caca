//! `Retry-After`: read in both forms, only for 429 and 503, only if it is longer than the backoff.
//!
//! The requested delay is limited by its setting, and jitter does not change it.

use mock_receiver::{Behavior, RetryAfter};
use serde_json::Value;

use crate::support::app::App;
use crate::support::fixture::Endpoint;
use crate::support::raw::RawReceiver;
use crate::support::view::{assert_is_consistent, attempts, time};

/// Returns the first attempt, and the seconds from its start to the due time of the second.
async fn wait(app: &App, target: &str) -> (i64, Value) {
    let id = app.accept("1", target).await;
    let event = app.event_where(&id, "attempted", |event| !attempts(event).is_empty()).await;
    assert_is_consistent(&event);
    assert_eq!(event["status"], "pending", "{event:#}");
    let attempt = attempts(&event)[0].clone();
    let wait = time(&attempt["next_retry_at"]).unwrap() - time(&attempt["started_at"]).unwrap();
    (wait.num_seconds(), attempt)
}

/// A receiver that chooses the response by the ordinal in the path.
async fn endpoint(responses: Vec<(u16, RetryAfter)>) -> Endpoint {
    Endpoint::start(move |seen| {
        let (status, retry_after) =
            responses[usize::try_from(seen.ordinal.unwrap()).unwrap()].clone();
        Behavior::Answer { status, retry_after: Some(retry_after), after_ms: 0 }
    })
    .await
}

/// A backoff of 10 to 12.5 s, so that longer and shorter delays differ clearly.
const TEN: &[(&str, &str)] = &[("BACKOFF_BASE_SECONDS", "10"), ("BACKOFF_CAP_SECONDS", "10")];
/// Seconds for the attempt and its settle on a busy machine.
const SLACK_SECONDS: i64 = 8;

#[tokio::test]
async fn longer_requested_delay_of_429_and_503_is_used_without_jitter() {
    let app = App::start(TEN).await;
    let responses = vec![
        (503, RetryAfter::Seconds(3_600)),
        (429, RetryAfter::Seconds(3_600)),
        (503, RetryAfter::DateIn(3_600)),
        (429, RetryAfter::DateIn(3_600)),
        (503, RetryAfter::Text(" 3600 ".into())),
        (503, RetryAfter::Text("03600".into())),
    ];
    let endpoint = endpoint(responses.clone()).await;
    // Five events per response, so that jitter cannot be small by chance for all of them.
    for (ordinal, (_, requested)) in (0..).zip(&responses).cycle().take(30) {
        let (wait, attempt) = wait(&app, &endpoint.url(ordinal)).await;
        // An HTTP date has whole seconds, so the delay may be one second shorter.
        let least = if matches!(requested, RetryAfter::DateIn(_)) { 3_599 } else { 3_600 };
        assert!((least..=3_600 + SLACK_SECONDS).contains(&wait), "{requested:?}: {wait}");
        assert_eq!(attempt["error"], Value::Null, "the delay was not limited");
    }
    app.stop().await;
}

#[tokio::test]
async fn shorter_past_or_invalid_retry_after_is_ignored() {
    let app = App::start(TEN).await;
    let texts =
        ["", "soon", "-5", "+9999", "1e9", "3600.5", "3600 s", "3600, 3600", "0x7000", "٣٦٠٠"];
    let dates = ["Tue, 99 Nov 2099 10:00:00 GMT", "2099-11-24T10:00:00Z", "Tue, 24 Nov 2099"];
    let mut responses: Vec<_> = texts
        .into_iter()
        .chain(dates)
        .filter(|text| text.is_ascii())
        .map(|text| (503, RetryAfter::Text(text.into())))
        .collect();
    responses.push((503, RetryAfter::Seconds(0)));
    responses.push((429, RetryAfter::Seconds(3)));
    responses.push((503, RetryAfter::DateIn(-3_600)));
    responses.push((429, RetryAfter::DateIn(3)));
    // The dispatcher reads the header only for 429 and 503.
    for status in [300, 301, 400, 404, 408, 413, 425, 500, 502, 504] {
        responses.push((status, RetryAfter::Seconds(3_600)));
    }
    let endpoint = endpoint(responses.clone()).await;
    for (ordinal, response) in (0..).zip(&responses) {
        let (wait, attempt) = wait(&app, &endpoint.url(ordinal)).await;
        assert!((10..=13 + SLACK_SECONDS).contains(&wait), "{response:?}: {wait}");
        assert_eq!(attempt["error"], Value::Null, "{response:?}");
    }
    app.stop().await;
}

#[tokio::test]
async fn requested_delay_over_the_limit_is_cut_and_reported() {
    let app = App::start(&[TEN, &[("RETRY_AFTER_CAP_SECONDS", "60")]].concat()).await;
    let responses = vec![
        (503, RetryAfter::Seconds(61)),
        (429, RetryAfter::Seconds(86_400)),
        (503, RetryAfter::Text("99999999999999999999999999".into())),
        (503, RetryAfter::DateIn(7_200)),
        (503, RetryAfter::Seconds(60)),
    ];
    let endpoint = endpoint(responses.clone()).await;
    for (ordinal, (status, requested)) in (0..).zip(responses) {
        let (wait, attempt) = wait(&app, &endpoint.url(ordinal)).await;
        assert!((60..=60 + SLACK_SECONDS).contains(&wait), "{requested:?}: {wait}");
        assert_eq!(
            (&attempt["outcome"], &attempt["status_code"]),
            (&"rejected".into(), &status.into())
        );
        let is_reported =
            attempt["error"].as_str().is_some_and(|error| error.contains("Retry-After"));
        assert_eq!(is_reported, requested != RetryAfter::Seconds(60), "{requested:?}: {attempt}");
    }
    app.stop().await;
}

#[tokio::test]
async fn limit_of_zero_ignores_retry_after() {
    let app = App::start(&[TEN, &[("RETRY_AFTER_CAP_SECONDS", "0")]].concat()).await;
    let endpoint = endpoint(vec![(503, RetryAfter::Seconds(3_600))]).await;
    let (wait, _) = wait(&app, &endpoint.url(0)).await;
    assert!((10..=13 + SLACK_SECONDS).contains(&wait), "{wait}");
    app.stop().await;
}

// The three date forms of RFC 9110, a header name in lower case, and bytes that are not text.
#[tokio::test]
async fn every_date_form_is_read() {
    let app = App::start(TEN).await;
    let due = chrono::Utc::now() + chrono::TimeDelta::hours(2);
    let granted =
        ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"];
    for form in granted {
        let value = due.format(form);
        let response =
            format!("HTTP/1.1 503 No\r\nretry-after: {value}\r\ncontent-length: 0\r\n\r\n");
        let receiver = RawReceiver::responding_with(response).await;
        let (wait, _) = wait(&app, &receiver.url()).await;
        assert!((7_000..=7_200).contains(&wait), "{value}: {wait}");
    }
    let receiver =
        RawReceiver::responding_with(b"HTTP/1.1 503 No\r\nretry-after: \xff\xfe\r\n\r\n".to_vec())
            .await;
    let (wait, _) = wait(&app, &receiver.url()).await;
    assert!((10..=13 + SLACK_SECONDS).contains(&wait), "{wait}");
    app.stop().await;
}
