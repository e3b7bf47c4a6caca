//! Reads the response of `GET /events/{id}`, and checks the rules that hold for every event.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

/// The attempts of an event, in order.
pub(crate) fn attempts(event: &Value) -> &[Value] {
    event["attempts"].as_array().expect("the event has a list of attempts")
}

/// One member of every attempt as text, empty if it is null.
pub(crate) fn each<'a>(event: &'a Value, member: &str) -> Vec<&'a str> {
    let members = attempts(event).iter().map(|attempt| attempt[member].as_str());
    members.map(Option::unwrap_or_default).collect()
}

/// The outcome of every attempt.
pub(crate) fn outcomes(event: &Value) -> Vec<&str> {
    each(event, "outcome")
}

/// Parses a time. The API writes RFC 3339 in UTC.
pub(crate) fn time(value: &Value) -> Option<DateTime<Utc>> {
    let text = value.as_str()?;
    assert!(text.ends_with('Z'), "{text}");
    Some(DateTime::parse_from_rfc3339(text).expect("the time is RFC 3339").to_utc())
}

/// Checks that times, attempt numbers and final state of an event do not contradict each other.
pub(crate) fn assert_is_consistent(event: &Value) {
    let created = time(&event["created_at"]).expect("an event has created_at");
    let finished = time(&event["finished_at"]);
    let pending = event["status"] == "pending";
    assert_eq!(
        pending,
        finished.is_none(),
        "finished_at is set if and only if the event is final: {event:#}"
    );
    assert!(pending || event["next_retry_at"].is_null(), "{event:#}");
    assert_eq!(event["status"] == "dead", !event["reason"].is_null(), "{event:#}");
    let (mut due, mut last) = (created, Value::Null);
    for (number, attempt) in (1..).zip(attempts(event)) {
        assert_eq!(attempt["number"], number, "{event:#}");
        let started = time(&attempt["started_at"]).expect("an attempt has started_at");
        assert!(started >= due, "attempt {number} started before it was due: {event:#}");
        let duration_ms = attempt["duration_ms"].as_i64().unwrap_or(0);
        assert!(duration_ms >= 0, "{event:#}");
        let ended = started + TimeDelta::milliseconds(duration_ms);
        let next = time(&attempt["next_retry_at"]);
        due = next.unwrap_or(ended);
        assert!(due >= ended, "attempt {number} was due again before it ended: {event:#}");
        let has_status = ["delivered", "rejected"].contains(&attempt["outcome"].as_str().unwrap());
        assert!(!has_status || attempt["status_code"].is_u64(), "{event:#}");
        assert!(
            has_status || !attempt["error"].is_null(),
            "a failure without an HTTP status has an error: {event:#}"
        );
        last = attempt.clone();
    }
    if let Some(finished) = finished {
        assert!(finished >= due, "finished_at is before the end of the last attempt: {event:#}");
        assert!(last["next_retry_at"].is_null(), "{event:#}");
        let delivered = last["outcome"] == "delivered";
        assert_eq!(event["status"] == "delivered", delivered, "{event:#}");
    }
}
