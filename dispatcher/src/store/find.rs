//! Reads one event with all its attempts, in one snapshot.

use chrono::{DateTime, Utc};
use serde::{Serialize, Serializer};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};

use super::connect::PgStore;
use super::error::StoreError;
use super::time::{nullable_time, rfc3339, time};
use crate::event::EventId;

/// An event as `GET /events/{id}` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EventView {
    /// The id that `POST /events` returned.
    pub id: EventId,
    /// `pending`, `delivered` or `dead`.
    pub status: String,
    /// Why the event is dead.
    pub reason: Option<String>,
    /// The URL to which the event is sent.
    pub target_url: String,
    /// Number of claims that were not released.
    pub attempt_count: i32,
    /// Due time of a pending event without a lease.
    #[serde(serialize_with = "rfc3339")]
    pub next_retry_at: Option<DateTime<Utc>>,
    /// When the event was accepted.
    #[serde(serialize_with = "rfc3339")]
    pub created_at: DateTime<Utc>,
    /// When the event was delivered or became dead.
    #[serde(serialize_with = "rfc3339")]
    pub finished_at: Option<DateTime<Utc>>,
    /// Settled and reclaimed attempts, ordered by number.
    pub attempts: Vec<AttemptView>,
}

/// An attempt as `GET /events/{id}` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AttemptView {
    /// From 1. The number of a released claim is used again.
    pub number: i32,
    /// When the attempt started.
    #[serde(serialize_with = "rfc3339")]
    pub started_at: DateTime<Utc>,
    /// Duration in milliseconds, unknown if the attempt was abandoned.
    pub duration_ms: Option<i64>,
    /// The word for the outcome, such as `rejected`, or `abandoned`.
    pub outcome: String,
    /// HTTP status, if a response had one.
    pub status_code: Option<i16>,
    /// Description of the failure.
    pub error: Option<String>,
    /// The first bytes of the response body.
    #[serde(serialize_with = "lossy_text")]
    pub response: Option<Vec<u8>>,
    /// The due time that the attempt set.
    #[serde(serialize_with = "rfc3339")]
    pub next_retry_at: Option<DateTime<Utc>>,
}

fn lossy_text<S: Serializer>(bytes: &Option<Vec<u8>>, serializer: S) -> Result<S::Ok, S::Error> {
    bytes.as_deref().map(String::from_utf8_lossy).serialize(serializer)
}

const FIND: &str = "
select e.id, e.status, e.reason, e.target_url, e.attempt_count, e.created_at, e.finished_at,
       case when e.lease_token is null then e.next_retry_at end as due_at,
       a.number, a.started_at, a.duration_ms, a.outcome, a.status_code, a.error, a.response, a.next_retry_at
from webhook_events e left join delivery_attempts a on a.event_id = e.id
where e.id = $1 order by a.number";

impl PgStore {
    /// Reads an event with its attempts. Returns `None` if the event does not exist.
    ///
    /// # Errors
    /// Postgres is unreachable or does not reply in time.
    pub async fn find(&self, id: EventId) -> Result<Option<EventView>, StoreError> {
        self.accept.run("reading an event", async |connection| find(connection, id).await).await
    }
}

async fn find(
    connection: &mut PgConnection,
    id: EventId,
) -> Result<Option<EventView>, sqlx::Error> {
    let rows = sqlx::query(FIND).bind(id.0).fetch_all(connection).await?;
    let Some(first) = rows.first() else {
        return Ok(None);
    };
    let attempts = rows.iter().filter_map(|row| attempt(row).transpose());
    Ok(Some(EventView {
        id,
        status: first.try_get("status")?,
        reason: first.try_get("reason")?,
        target_url: first.try_get("target_url")?,
        attempt_count: first.try_get("attempt_count")?,
        next_retry_at: nullable_time(first, "due_at")?,
        created_at: time(first, "created_at")?,
        finished_at: nullable_time(first, "finished_at")?,
        attempts: attempts.collect::<Result<_, _>>()?,
    }))
}

/// Returns `None` for the only row of an event without attempts.
fn attempt(row: &PgRow) -> Result<Option<AttemptView>, sqlx::Error> {
    let Some(number) = row.try_get("number")? else {
        return Ok(None);
    };
    Ok(Some(AttemptView {
        number,
        started_at: time(row, "started_at")?,
        duration_ms: row.try_get("duration_ms")?,
        outcome: row.try_get("outcome")?,
        status_code: row.try_get("status_code")?,
        error: row.try_get("error")?,
        response: row.try_get("response")?,
        next_retry_at: nullable_time(row, "next_retry_at")?,
    }))
}
