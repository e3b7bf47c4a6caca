//! What must hold of the view of any event, whatever it went through.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

/// The attempts of an event.
pub(crate) fn attempts(event: &Value) -> &[Value] {
    event["attempts"].as_array().expect("a list of attempts")
}

/// One member of every attempt, as text; empty where it is null.
pub(crate) fn each<'a>(event: &'a Value, member: &str) -> Vec<&'a str> {
    let members = attempts(event)
        .iter()
        .map(|attempt| attempt[member].as_str());
    members.map(Option::unwrap_or_default).collect()
}

/// The outcomes of the attempts, in order.
pub(crate) fn outcomes(event: &Value) -> Vec<&str> {
    each(event, "outcome")
}

/// A time in a view: RFC 3339, UTC.
pub(crate) fn time(value: &Value) -> Option<DateTime<Utc>> {
    let text = value.as_str()?;
    assert!(text.ends_with('Z'), "{text}");
    Some(
        DateTime::parse_from_rfc3339(text)
            .expect("RFC 3339")
            .to_utc(),
    )
}

/// Checks that an event's story is told in order and without contradiction.
pub(crate) fn assert_is_consistent(event: &Value) {
    let created = time(&event["created_at"]).expect("it was accepted");
    let finished = time(&event["finished_at"]);
    let pending = event["status"] == "pending";
    assert_eq!(pending, finished.is_none(), "an end has a time: {event:#}");
    assert!(pending || event["next_retry_at"].is_null(), "{event:#}");
    assert_eq!(
        event["status"] == "dead",
        !event["reason"].is_null(),
        "{event:#}"
    );
    let (mut due, mut last) = (created, Value::Null);
    for (number, attempt) in (1..).zip(attempts(event)) {
        assert_eq!(attempt["number"], number, "{event:#}");
        let started = time(&attempt["started_at"]).expect("it began");
        assert!(
            started >= due,
            "attempt {number} began before it was due: {event:#}"
        );
        let took = attempt["duration_ms"].as_i64().unwrap_or(0);
        assert!(took >= 0, "{event:#}");
        let ended = started + TimeDelta::milliseconds(took);
        let next = time(&attempt["next_retry_at"]);
        due = next.unwrap_or(ended);
        assert!(
            due >= ended,
            "attempt {number} was due again before it ended: {event:#}"
        );
        let whole = ["delivered", "rejected"].contains(&attempt["outcome"].as_str().unwrap());
        assert!(!whole || attempt["status_code"].is_u64(), "{event:#}");
        assert!(
            whole || !attempt["error"].is_null(),
            "a failure says why: {event:#}"
        );
        last = attempt.clone();
    }
    if let Some(finished) = finished {
        assert!(
            finished >= due,
            "it ended before its last attempt did: {event:#}"
        );
        assert!(last["next_retry_at"].is_null(), "{event:#}");
        let delivered = last["outcome"] == "delivered";
        assert_eq!(event["status"] == "delivered", delivered, "{event:#}");
    }
}
