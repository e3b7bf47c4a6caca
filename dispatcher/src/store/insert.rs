//! accept: stores one pending event in one commit.
//!
//! Safe to run again with an idempotency key: the second run finds the row of the first.

use std::time::Duration;

use sqlx::{PgConnection, Row};

use crate::event::{EventId, NewEvent};

/// Largest body whose payload Postgres can store: a message to Postgres has at most 1 GiB, and the
/// rest of the row needs less than 1 MiB.
pub const BODY_BYTES_MAX: usize = (1 << 30) - (1 << 20);

/// Smallest payload that gets extra time.
pub const LARGE_BYTES_MIN: usize = 1 << 20;

/// Extra time for storing a large payload: it has to pass a link of this rate, up to the limit.
const LARGE_BYTES_PER_SECOND: usize = 1 << 20;
const EXTRA_TIME_MAX: Duration = Duration::from_secs(60);

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

/// Returns the time for storing a payload of this size beyond the timeout of the API.
pub(super) fn extra_time(payload_bytes: usize) -> Duration {
    let large_bytes = payload_bytes.saturating_sub(LARGE_BYTES_MIN);
    let seconds = large_bytes.div_ceil(LARGE_BYTES_PER_SECOND);
    Duration::from_secs(seconds as u64).min(EXTRA_TIME_MAX)
}

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
    Ok(if row.try_get("same")? { Inserted::Accepted(id) } else { Inserted::Conflict(id) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_large_payloads_get_extra_time_and_it_is_bounded() {
        let seconds = |bytes| extra_time(bytes).as_secs();
        let mib = 1 << 20;
        let sizes = [0, mib, mib + 1, 8 * mib, 32 * mib, BODY_BYTES_MAX];
        assert_eq!(sizes.map(seconds), [0, 0, 1, 7, 31, 60]);
    }
}
