//! `Retry-After`: in both forms, on 429 and 503 alone, when it is longer, up to its cap, and without jitter.

use mock_receiver::{Behavior, RetryAfter};
use serde_json::Value;

use crate::support::app::App;
use crate::support::fixture::Endpoint;
use crate::support::raw::Canned;
use crate::support::story::{assert_is_consistent, attempts, time};

/// Seconds from the begin of the first attempt to the second, and the first attempt.
async fn wait(app: &App, target: &str) -> (i64, Value) {
    let id = app.accept("1", target).await;
    let event = app
        .event_once(&id, "tried", |event| !attempts(event).is_empty())
        .await;
    assert_is_consistent(&event);
    assert_eq!(event["status"], "pending", "{event:#}");
    let attempt = attempts(&event)[0].clone();
    let wait = time(&attempt["next_retry_at"]).unwrap() - time(&attempt["started_at"]).unwrap();
    (wait.num_seconds(), attempt)
}

/// A receiver that answers by the ordinal in the path.
async fn endpoint(answers: Vec<(u16, RetryAfter)>) -> Endpoint {
    Endpoint::start(move |seen| {
        let (status, retry_after) =
            answers[usize::try_from(seen.ordinal.unwrap()).unwrap()].clone();
        Behavior::Answer {
            status,
            retry_after: Some(retry_after),
            after_ms: 0,
        }
    })
    .await
}

/// A delay of 10 to 12.5 s, so that what is longer and what is shorter can be told apart.
const TEN: &[(&str, &str)] = &[
    ("BACKOFF_BASE_SECONDS", "10"),
    ("BACKOFF_CAP_SECONDS", "10"),
];
/// What an attempt and its settle may take on a machine with other things to do.
const SLACK: i64 = 8;

#[tokio::test]
async fn a_longer_wish_of_429_and_503_is_granted_without_jitter() {
    let app = App::start(TEN).await;
    let answers = vec![
        (503, RetryAfter::Seconds(3_600)),
        (429, RetryAfter::Seconds(3_600)),
        (503, RetryAfter::DateIn(3_600)),
        (429, RetryAfter::DateIn(3_600)),
        (503, RetryAfter::Text(" 3600 ".into())),
        (503, RetryAfter::Text("03600".into())),
    ];
    let endpoint = endpoint(answers.clone()).await;
    // Five of each, or a jitter could be small by chance.
    for (ordinal, (_, wish)) in (0..).zip(&answers).cycle().take(30) {
        let (wait, attempt) = wait(&app, &endpoint.url(ordinal)).await;
        // An HTTP date has whole seconds: it may mean one less.
        let least = if matches!(wish, RetryAfter::DateIn(_)) {
            3_599
        } else {
            3_600
        };
        assert!((least..=3_600 + SLACK).contains(&wait), "{wish:?}: {wait}");
        assert_eq!(attempt["error"], Value::Null, "nothing was cut");
    }
    app.stop().await;
}

#[tokio::test]
async fn what_is_shorter_past_or_unreadable_is_ignored() {
    let app = App::start(TEN).await;
    let texts = [
        "",
        "soon",
        "-5",
        "+9999",
        "1e9",
        "3600.5",
        "3600 s",
        "3600, 3600",
        "0x7000",
        "٣٦٠٠",
    ];
    let dates = [
        "Tue, 99 Nov 2099 10:00:00 GMT",
        "2099-11-24T10:00:00Z",
        "Tue, 24 Nov 2099",
    ];
    let mut answers: Vec<_> = texts
        .into_iter()
        .chain(dates)
        .filter(|text| text.is_ascii())
        .map(|text| (503, RetryAfter::Text(text.into())))
        .collect();
    answers.push((503, RetryAfter::Seconds(0)));
    answers.push((429, RetryAfter::Seconds(3)));
    answers.push((503, RetryAfter::DateIn(-3_600)));
    answers.push((429, RetryAfter::DateIn(3)));
    // Other statuses have no say, whatever they say.
    for status in [300, 301, 400, 404, 408, 413, 425, 500, 502, 504] {
        answers.push((status, RetryAfter::Seconds(3_600)));
    }
    let endpoint = endpoint(answers.clone()).await;
    for (ordinal, answer) in (0..).zip(&answers) {
        let (wait, attempt) = wait(&app, &endpoint.url(ordinal)).await;
        assert!((10..=13 + SLACK).contains(&wait), "{answer:?}: {wait}");
        assert_eq!(attempt["error"], Value::Null, "{answer:?}");
    }
    app.stop().await;
}

#[tokio::test]
async fn a_cap_cuts_the_wish_and_says_so() {
    let app = App::start(&[TEN, &[("RETRY_AFTER_CAP_SECONDS", "60")]].concat()).await;
    let answers = vec![
        (503, RetryAfter::Seconds(61)),
        (429, RetryAfter::Seconds(86_400)),
        (503, RetryAfter::Text("99999999999999999999999999".into())),
        (503, RetryAfter::DateIn(7_200)),
        (503, RetryAfter::Seconds(60)),
    ];
    let endpoint = endpoint(answers.clone()).await;
    for (ordinal, (status, wish)) in (0..).zip(answers) {
        let (wait, attempt) = wait(&app, &endpoint.url(ordinal)).await;
        assert!((60..=60 + SLACK).contains(&wait), "{wish:?}: {wait}");
        assert_eq!(
            (&attempt["outcome"], &attempt["status_code"]),
            (&"rejected".into(), &status.into())
        );
        let said = attempt["error"]
            .as_str()
            .is_some_and(|error| error.contains("Retry-After"));
        assert_eq!(said, wish != RetryAfter::Seconds(60), "{wish:?}: {attempt}");
    }
    app.stop().await;
}

#[tokio::test]
async fn a_cap_of_nothing_leaves_the_backoff() {
    let app = App::start(&[TEN, &[("RETRY_AFTER_CAP_SECONDS", "0")]].concat()).await;
    let endpoint = endpoint(vec![(503, RetryAfter::Seconds(3_600))]).await;
    let (wait, _) = wait(&app, &endpoint.url(0)).await;
    assert!((10..=13 + SLACK).contains(&wait), "{wait}");
    app.stop().await;
}

// The three forms of RFC 9110, a lower-case name, and bytes that are no text.
#[tokio::test]
async fn every_form_of_a_date_is_read() {
    let app = App::start(TEN).await;
    let due = chrono::Utc::now() + chrono::TimeDelta::hours(2);
    let granted = [
        "%a, %d %b %Y %H:%M:%S GMT",
        "%A, %d-%b-%y %H:%M:%S GMT",
        "%a %b %e %H:%M:%S %Y",
    ];
    for form in granted {
        let value = due.format(form);
        let answer =
            format!("HTTP/1.1 503 No\r\nretry-after: {value}\r\ncontent-length: 0\r\n\r\n");
        let receiver = Canned::answering(answer).await;
        let (wait, _) = wait(&app, &receiver.url()).await;
        assert!((7_000..=7_200).contains(&wait), "{value}: {wait}");
    }
    let receiver =
        Canned::answering(b"HTTP/1.1 503 No\r\nretry-after: \xff\xfe\r\n\r\n".to_vec()).await;
    let (wait, _) = wait(&app, &receiver.url()).await;
    assert!((10..=13 + SLACK).contains(&wait), "{wait}");
    app.stop().await;
}
