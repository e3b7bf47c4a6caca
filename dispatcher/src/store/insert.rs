//! accept, and accept and claim: stores events in one commit, pending or leased.
//!
//! Safe to run again with idempotency keys: the second run finds the rows of the first.

use std::collections::HashSet;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use super::claim::micros;
use super::settle::column;
use crate::event::{EventId, LeaseHolder, LeaseToken, NewEvent};

/// Largest body whose payload Postgres can store: a message to Postgres has at most 1 GiB, and the
/// rest of the row needs less than 1 MiB.
pub const BODY_BYTES_MAX: usize = (1 << 30) - (1 << 20);

/// Smallest payload that is stored in a statement of its own, in bytes.
pub const ALONE_BYTES_MIN: usize = 256 * 1024;

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

/// An event to store.
#[derive(Clone, Copy, Debug)]
pub struct NewRow<'a> {
    /// The event.
    pub event: &'a NewEvent,
    /// Token of its lease. `None` for a pending event.
    pub token: Option<LeaseToken>,
}

/// The result of storing events in one commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InsertedRows {
    /// `now()` of the transaction.
    pub now: DateTime<Utc>,
    /// One value per event, in order. An event whose key was already used got no lease.
    pub events: Vec<Inserted>,
}

/// Maximum wait for a transaction elsewhere that holds an idempotency key, because the other keys
/// of the batch wait with it.
const LOCK_TIMEOUT: &str = "20ms";
/// The same for a payload that is alone, because sending it again takes long.
const LOCK_TIMEOUT_ALONE: &str = "1s";

// A row with a token is leased, and its first attempt has begun. The lock timeout ends with the
// statement, and it is set before the first row is inserted.
macro_rules! insert_sql {
    ($on_conflict:literal) => {
        concat!(
            "
with wait as materialized (select set_config('lock_timeout', $9, true)), new as (
    select new.*, case when token is not null then now() end as claimed_at
    from wait, unnest($1::uuid[], $2::text[], $3::boolean[], $4::bytea[], $8::text[], $5::uuid[])
        as new (id, url, given, payload, key, token)
), stored as (
    insert into webhook_events
        (id, target_url, target_given, payload, status, round, attempt_count, failure_count,
         abandon_count, next_retry_at, created_at, lease_token, claimed_at, lease_until, holder,
         idempotency_key)
    select id, url, given, payload, 'pending', 0, (token is not null)::integer, 0,
        0, now(), now(), token, claimed_at, claimed_at + $6 * interval '1 microsecond',
        case when token is not null then $7::bigint end, key
    from new ",
            $on_conflict,
            " returning id
)
select now() as stored_at, coalesce(array_agg(id), '{}') as stored from stored"
        )
    };
}

const INSERT: &str = insert_sql!("");

// Slower, because Postgres confirms each row in a record of its own.
const INSERT_KEYED: &str =
    insert_sql!("on conflict (idempotency_key) where idempotency_key is not null do nothing");

// A separate statement, because the snapshot of the insert does not contain the conflicting rows.
const SAME: &str = "
select e.id, e.payload = new.payload and e.target_given = new.given
    and (not new.given or e.target_url = new.url) as same
from unnest($1::text[], $2::boolean[], $3::bytea[], $4::text[]) with ordinality
    as new (url, given, payload, key, at)
join webhook_events e on e.idempotency_key = new.key
order by new.at";

/// Returns the time for storing a payload of this size beyond the timeout of the API.
pub fn extra_time(payload_bytes: usize) -> Duration {
    let large_bytes = payload_bytes.saturating_sub(LARGE_BYTES_MIN);
    let seconds = large_bytes.div_ceil(LARGE_BYTES_PER_SECOND);
    Duration::from_secs(seconds as u64).min(EXTRA_TIME_MAX)
}

pub(super) async fn insert(
    db: &mut PgConnection,
    rows: &[NewRow<'_>],
    holder: Option<LeaseHolder>,
) -> sqlx::Result<InsertedRows> {
    let events: Vec<&NewEvent> = rows.iter().map(|row| row.event).collect();
    let has_keys = events.iter().any(|event| event.idempotency_key.is_some());
    let is_alone = events.iter().all(|event| event.payload.len() >= ALONE_BYTES_MIN);
    let (statement, lock_timeout) = match (has_keys, is_alone) {
        (false, _) => (INSERT, "0"),
        (true, false) => (INSERT_KEYED, LOCK_TIMEOUT),
        (true, true) => (INSERT_KEYED, LOCK_TIMEOUT_ALONE),
    };
    let (now, stored): (_, Vec<Uuid>) = sqlx::query_as(statement)
        .bind(column(&events, |event| event.id.0))
        .bind(column(&events, |event| event.target.url()))
        .bind(column(&events, |event| event.target.is_given()))
        .bind(column(&events, |event| event.payload.as_slice()))
        .bind(column(rows, |row| row.token.map(|token| token.0)))
        .bind(holder.map(|holder| micros(holder.lease)))
        .bind(holder.map(|holder| holder.worker.0))
        .bind(column(&events, |event| event.idempotency_key.as_deref()))
        .bind(lock_timeout)
        .fetch_one(&mut *db)
        .await?;
    let stored: HashSet<_> = stored.into_iter().collect();
    let is_new = |event: &NewEvent| stored.contains(&event.id.0);
    let conflicting: Vec<_> = events.iter().copied().filter(|event| !is_new(event)).collect();
    // The insert is committed, so an error here leaves the outcome unknown.
    let known = known(db, &conflicting).await;
    let mut known = known.map_err(|error| sqlx::Error::Protocol(error.to_string()))?.into_iter();
    let events = events.iter().map(|event| match is_new(event) {
        true => Some(Inserted::Accepted(event.id)),
        false => known.next(),
    });
    let events = events.collect::<Option<_>>().ok_or(sqlx::Error::RowNotFound)?;
    Ok(InsertedRows { now, events })
}

/// Compares events with those that were accepted with the same keys.
async fn known(db: &mut PgConnection, events: &[&NewEvent]) -> sqlx::Result<Vec<Inserted>> {
    if events.is_empty() {
        return Ok(Vec::new());
    }
    let rows: Vec<(Uuid, bool)> = sqlx::query_as(SAME)
        .bind(column(events, |event| event.target.url()))
        .bind(column(events, |event| event.target.is_given()))
        .bind(column(events, |event| event.payload.as_slice()))
        .bind(column(events, |event| event.idempotency_key.as_deref()))
        .fetch_all(db)
        .await?;
    if rows.len() != events.len() {
        // A row was deleted meanwhile.
        return Err(sqlx::Error::RowNotFound);
    }
    let known = |(id, is_same)| match is_same {
        true => Inserted::Accepted(EventId(id)),
        false => Inserted::Conflict(EventId(id)),
    };
    Ok(rows.into_iter().map(known).collect())
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
