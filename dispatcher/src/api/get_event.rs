//! `GET /events/{id}`: the event with all of its attempts that have a result.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use uuid::Uuid;
use uuid::fmt::Hyphenated;

use super::problem::Problem;
use super::state::Api;
use crate::event::EventId;
use crate::store::{AttemptView, EventView};

#[derive(Serialize)]
pub(super) struct EventBody {
    id: String,
    status: String,
    reason: Option<String>,
    target_url: String,
    attempt_count: i32,
    next_retry_at: Option<String>,
    created_at: String,
    finished_at: Option<String>,
    attempts: Vec<AttemptBody>,
}

#[derive(Serialize)]
struct AttemptBody {
    number: i32,
    started_at: String,
    duration_ms: Option<i64>,
    outcome: String,
    status_code: Option<i16>,
    error: Option<String>,
    response: Option<String>,
    next_retry_at: Option<String>,
}

pub(super) async fn get_event(
    State(api): State<Api>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<EventBody>, Problem> {
    // The path is not UTF-8, for example `%ff`. No event has such an id.
    let Path(id) = id.map_err(|error| Problem::not_found(error.body_text()))?;
    let missing = || Problem::not_found(format!("there is no event with the id {id:?}"));
    let id = event_id(&id).ok_or_else(missing)?;
    if !api.shared.migrated.is_set() {
        return Err(Problem::unavailable(
            "the dispatcher has not reached its database yet; try again",
        ));
    }
    let found = api.store.find(id).await.map_err(|error| {
        api.outages.log(&error);
        Problem::unavailable("the database is unavailable; try again")
    })?;
    found.map(|event| Json(event.into())).ok_or_else(missing)
}

/// Accepts only the form in which the API returns ids. The parser accepts three other ones.
fn event_id(text: &str) -> Option<EventId> {
    let hyphenated = text.len() == Hyphenated::LENGTH;
    let id = Uuid::try_parse(text).ok().filter(|_| hyphenated)?;
    Some(EventId(id))
}

impl From<EventView> for EventBody {
    fn from(event: EventView) -> Self {
        Self {
            id: event.id.to_string(),
            status: event.status,
            reason: event.reason,
            target_url: event.target_url,
            attempt_count: event.attempt_count,
            next_retry_at: event.next_retry_at.map(rfc3339),
            created_at: rfc3339(event.created_at),
            finished_at: event.finished_at.map(rfc3339),
            attempts: event.attempts.into_iter().map(AttemptBody::from).collect(),
        }
    }
}

impl From<AttemptView> for AttemptBody {
    fn from(attempt: AttemptView) -> Self {
        Self {
            number: attempt.number,
            started_at: rfc3339(attempt.started_at),
            duration_ms: attempt.duration_ms,
            outcome: attempt.outcome,
            status_code: attempt.status_code,
            error: attempt.error,
            response: attempt.response.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
            next_retry_at: attempt.next_retry_at.map(rfc3339),
        }
    }
}

/// Formats a time in UTC with the precision of Postgres, microseconds (RFC 3339).
fn rfc3339(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}
