//! Reads one event with all its attempts, in one snapshot.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};
use sqlx::{FromRow, PgConnection, Row};
use uuid::Uuid;

use super::connect::PgStore;
use super::error::StoreError;
use super::time::StoredTime;
use crate::event::EventId;

/// An event as `GET /events/{id}` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, FromRow)]
pub struct EventView {
    /// The id that `POST /events` returned.
    #[sqlx(try_from = "Uuid")]
    pub id: EventId,
    /// `pending`, `delivered` or `dead`.
    pub status: String,
    /// Why the event is dead.
    pub reason: Option<String>,
    /// The URL to which the event is sent.
    pub target_url: String,
    /// Number of replays.
    pub round: i32,
    /// True if the event is finished, so that it can be replayed.
    pub replayable: bool,
    /// End of the lease of the open attempt.
    #[sqlx(rename = "lease_until")]
    #[serde(serialize_with = "lease")]
    pub lease: Option<StoredTime>,
    /// Number of claims that were not released.
    pub attempt_count: i32,
    /// Due time of a pending event without a lease.
    #[sqlx(rename = "due_at")]
    pub next_retry_at: Option<StoredTime>,
    /// When the event was accepted.
    pub created_at: StoredTime,
    /// When the event was delivered or became dead.
    pub finished_at: Option<StoredTime>,
    /// Settled and reclaimed attempts, ordered by number.
    #[sqlx(skip)]
    pub attempts: Vec<AttemptView>,
}

/// An attempt as `GET /events/{id}` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, FromRow)]
pub struct AttemptView {
    /// From 1. The number of a released claim is used again.
    pub number: i32,
    /// When the attempt started.
    pub started_at: StoredTime,
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
    pub next_retry_at: Option<StoredTime>,
}

fn lease<S: Serializer>(until: &Option<StoredTime>, serializer: S) -> Result<S::Ok, S::Error> {
    until.as_ref().map(|until| BTreeMap::from([("until", until)])).serialize(serializer)
}

fn lossy_text<S: Serializer>(bytes: &Option<Vec<u8>>, serializer: S) -> Result<S::Ok, S::Error> {
    bytes.as_deref().map(String::from_utf8_lossy).serialize(serializer)
}

const FIND: &str = "
select e.id, e.status, e.reason, e.target_url, e.attempt_count, e.created_at, e.finished_at,
       e.round, e.status <> 'pending' as replayable, e.lease_until,
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
        self.accept.run("reading an event", async |db| find(db, id).await).await
    }
}

async fn find(db: &mut PgConnection, id: EventId) -> sqlx::Result<Option<EventView>> {
    let rows = sqlx::query(FIND).bind(id.0).fetch_all(db).await?;
    let Some(first) = rows.first() else {
        return Ok(None);
    };
    let mut event = EventView::from_row(first)?;
    // An event without attempts has one row, without a number.
    if first.try_get::<Option<i32>, _>("number")?.is_some() {
        event.attempts = rows.iter().map(FromRow::from_row).collect::<Result<_, _>>()?;
    }
    Ok(Some(event))
}
