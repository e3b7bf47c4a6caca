//! accept: stores one pending event in one commit.
//!
//! Safe to run again with an idempotency key: the second run finds the row of the first.

use sqlx::{PgConnection, Row};

use crate::event::{EventId, NewEvent};

/// The result of storing an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// The event is stored under this id: the new one, or that of an equal event that was accepted
    /// with the same key.
    Accepted(EventId),
    /// A different event was accepted with the same key.
    Conflict(EventId),
}

const INSERT: &str = "
insert into webhook_events
    (id, target_url, target_given, payload, idempotency_key, status, round,
     attempt_count, failure_count, abandon_count, next_retry_at, created_at)
values ($1, $2, $3, $4, $5, 'pending', 0, 0, 0, 0, now(), now())
on conflict (idempotency_key) where idempotency_key is not null do nothing";

// A separate statement, because the snapshot of the insert does not contain the conflicting row.
const SAME: &str = "
select id, payload = $2 and target_given = $3 and (not $3 or target_url = $4) as same
from webhook_events where idempotency_key = $1";

pub(super) async fn insert(
    connection: &mut PgConnection,
    event: &NewEvent,
) -> Result<Inserted, sqlx::Error> {
    let inserted = sqlx::query(INSERT)
        .bind(event.id.0)
        .bind(event.target.url())
        .bind(event.target.is_given())
        .bind(&event.payload)
        .bind(&event.idempotency_key)
        .execute(&mut *connection)
        .await?;
    if inserted.rows_affected() == 1 {
        return Ok(Inserted::Accepted(event.id));
    }
    let row = sqlx::query(SAME)
        .bind(&event.idempotency_key)
        .bind(&event.payload)
        .bind(event.target.is_given())
        .bind(event.target.url())
        .fetch_one(connection)
        .await?;
    let id = EventId(row.try_get("id")?);
    Ok(if row.try_get("same")? {
        Inserted::Accepted(id)
    } else {
        Inserted::Conflict(id)
    })
}
