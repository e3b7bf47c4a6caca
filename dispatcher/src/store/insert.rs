//! accept: one event becomes pending, in one commit. Safe to run twice by its key: the second run finds the first's row.

use sqlx::{PgConnection, Row};

use crate::event::{EventId, NewEvent};

/// What became of a new event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// It is pending under this id: its own, or that of the same event accepted before under the same key.
    Accepted(EventId),
    /// Another event was accepted under the same key.
    Conflict(EventId),
}

const INSERT: &str = "
insert into webhook_events
    (id, target_url, target_given, payload, idempotency_key, status, round,
     attempt_count, failure_count, abandon_count, next_retry_at, created_at)
values ($1, $2, $3, $4, $5, 'pending', 0, 0, 0, 0, now(), now())
on conflict (idempotency_key) where idempotency_key is not null do nothing";

// A second statement, with a snapshot of its own: the one that met the conflict cannot see the other's row.
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
