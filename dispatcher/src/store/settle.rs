//! settle: writes ended attempts and their dispositions, each fenced by its lease token.
//!
//! Safe to run again: a token whose lease has ended matches no event. Then the attempt row shows
//! whether an earlier run of the same settle committed. Locks are taken in the order of ids, as in
//! every batch, so that batches do not deadlock.

use std::collections::BTreeMap;

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};

use super::claim::micros;
use crate::event::{Disposition, EventId, Settled, Settlement};

/// Maximum number of attempts per settle.
pub const SETTLE_BATCH_MAX: usize = 256;

// `held` locks in the order of ids. After a wait for a lock, Postgres checks the token again. A
// delivered or dead event has no due time. Every settle, success or failure, resets the number of
// consecutive abandonments.
//
// The batch is bound as columns sorted by id. `width_bucket` finds the position of an id in $1 by
// binary search. A join would be slower: the planner underestimates the batch, and its nested loops
// took 17 ms for 256 events instead of 2 ms. A plan for a small table could also read all of a
// large table.
macro_rules! settle_sql {
    ($recorded:literal) => {
        concat!(
            "
with held as materialized (
    select id from webhook_events
    where id = any ($1::uuid[]) and lease_token = ($2::uuid[])[width_bucket(id, $1)]
    order by id for update
), settled as (
    update webhook_events e
    set status = ($4::text[])[width_bucket(e.id, $1)], reason = ($5::text[])[width_bucket(e.id, $1)],
        failure_count = least(e.failure_count, 2147483646)
            + case when ($4::text[])[width_bucket(e.id, $1)] = 'delivered' then 0 else 1 end,
        abandon_count = 0,
        next_retry_at = now() + ($6::bigint[])[width_bucket(e.id, $1)] * interval '1 microsecond',
        finished_at = case when ($4::text[])[width_bucket(e.id, $1)] <> 'pending' then now() end,
        lease_token = null, lease_until = null, claimed_at = null, holder = null
    where e.id = any (array(select id from held))
    returning e.id, width_bucket(e.id, $1) as place, e.next_retry_at
), logged as (
    insert into delivery_attempts
        (event_id, number, token, started_at, duration_ms, outcome, status_code, error, response, next_retry_at)
    select id, ($3::integer[])[place], ($2::uuid[])[place], ($7::timestamptz[])[place], ($8::bigint[])[place],
           ($9::text[])[place], ($10::smallint[])[place], ($11::text[])[place], ($12::bytea[])[place], next_retry_at
    from settled
",
            $recorded
        )
    };
}

const SETTLE: &str = settle_sql!(")\nselect id, true as is_recorded from settled");

// If an operator has set attempt_count back, the number of the attempt exists already. A statement
// that expects that is slower, so it runs only after a refusal.
const SETTLE_UNRECORDED: &str = settle_sql!(
    "    on conflict (event_id, number) do nothing returning event_id
)
select id, exists (select from logged where event_id = id) as is_recorded from settled"
);

/// 23505: the number of an attempt exists already.
const UNIQUE_VIOLATION: &str = "23505";

const ALREADY: &str = "
select event_id from delivery_attempts
where event_id = any($1) and token = any($2) and outcome <> 'abandoned'";

pub(super) async fn settle(
    connection: &mut PgConnection,
    settlements: &[Settlement],
) -> Result<Vec<Settled>, sqlx::Error> {
    let sorted: BTreeMap<_, _> = settlements.iter().map(|s| (s.key.id, s)).collect();
    let batch: Vec<_> = sorted.into_values().collect();
    let rows = match write(connection, SETTLE, &batch).await {
        Err(sqlx::Error::Database(reply)) if reply.code().as_deref() == Some(UNIQUE_VIOLATION) => {
            write(connection, SETTLE_UNRECORDED, &batch).await?
        }
        result => result?,
    };
    let mut settled = BTreeMap::new();
    for row in &rows {
        let is_recorded: bool = row.try_get("is_recorded")?;
        let written = if is_recorded { Settled::Now } else { Settled::Unrecorded };
        settled.insert(EventId(row.try_get("id")?), written);
    }
    if settled.len() < batch.len() {
        for id in already(connection, &batch).await? {
            settled.entry(id).or_insert(Settled::Already);
        }
    }
    let settled_of = |s: &Settlement| settled.get(&s.key.id).copied().unwrap_or(Settled::LeaseLost);
    Ok(settlements.iter().map(settled_of).collect())
}

/// Binds a batch, which is sorted by event id.
async fn write(
    connection: &mut PgConnection,
    statement: &'static str,
    batch: &[&Settlement],
) -> Result<Vec<PgRow>, sqlx::Error> {
    let dispositions = column(batch, |s| match s.disposition {
        Disposition::Delivered => ("delivered", None, None),
        Disposition::RetryAfter(delay) => ("pending", None, Some(micros(delay))),
        Disposition::Dead(reason) => ("dead", Some(reason.as_str()), None),
    });
    let status_code = |status: Option<u16>| status.and_then(|status| i16::try_from(status).ok());
    // Postgres text cannot contain NUL, and an error may quote bytes of a receiver.
    let text = |error: &String| error.replace('\0', "\u{fffd}");
    sqlx::query(statement)
        .bind(column(batch, |s| s.key.id.0))
        .bind(column(batch, |s| s.key.token.0))
        .bind(column(batch, |s| i32::try_from(s.key.number).unwrap_or(i32::MAX)))
        .bind(column(&dispositions, |(status, ..)| *status))
        .bind(column(&dispositions, |(_, reason, _)| *reason))
        .bind(column(&dispositions, |(.., delay)| *delay))
        .bind(column(batch, |s| s.started_at))
        .bind(column(batch, |s| i64::try_from(s.duration.as_millis()).unwrap_or(i64::MAX)))
        .bind(column(batch, |s| s.result.outcome.as_str()))
        .bind(column(batch, |s| status_code(s.result.outcome.status())))
        .bind(column(batch, |s| s.result.error.as_ref().map(text)))
        .bind(column(batch, |s| s.result.snippet.as_deref()))
        .fetch_all(connection)
        .await
}

fn column<'a, R, T>(rows: &'a [R], value: impl FnMut(&'a R) -> T) -> Vec<T> {
    rows.iter().map(value).collect()
}

/// Returns the events of the batch that an earlier run settled. A separate statement, because it
/// needs a newer snapshot.
async fn already(
    connection: &mut PgConnection,
    batch: &[&Settlement],
) -> Result<Vec<EventId>, sqlx::Error> {
    let (ids, tokens) = (column(batch, |s| s.key.id.0), column(batch, |s| s.key.token.0));
    let rows = sqlx::query(ALREADY).bind(ids).bind(tokens).fetch_all(connection).await?;
    rows.iter().map(|row| row.try_get("event_id").map(EventId)).collect()
}
