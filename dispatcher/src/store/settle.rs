//! settle: writes ended attempts and their dispositions, each fenced by its lease token.
//!
//! Safe to run again: a token whose lease has ended matches no event. Then the attempt row shows
//! whether an earlier run of the same settle committed. Locks are taken in the order of ids, as in
//! every batch, so that batches do not deadlock.

use std::collections::BTreeMap;

use sqlx::PgConnection;
use uuid::Uuid;

use super::claim::micros;
use super::error::has_sqlstate;
use crate::event::{Disposition, Settled, Settlement};

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

const ALREADY: &str = "
select event_id from delivery_attempts
where event_id = any($1) and token = any($2) and outcome <> 'abandoned'";

pub(super) async fn settle(
    db: &mut PgConnection,
    settlements: &[Settlement],
) -> sqlx::Result<Vec<Settled>> {
    let sorted: BTreeMap<_, _> = settlements.iter().map(|s| (s.key.id, s)).collect();
    let batch: Vec<_> = sorted.into_values().collect();
    let rows = match write(db, SETTLE, &batch).await {
        // 23505: the number of an attempt exists already.
        Err(error) if has_sqlstate(&error, &["23505"]) => {
            write(db, SETTLE_UNRECORDED, &batch).await?
        }
        rows => rows?,
    };
    let written = |is_recorded| if is_recorded { Settled::Now } else { Settled::Unrecorded };
    let written = rows.into_iter().map(|(id, is_recorded)| (id, written(is_recorded)));
    let mut settled: BTreeMap<_, _> = written.collect();
    if settled.len() < batch.len() {
        let (ids, tokens) = (column(&batch, |s| s.key.id.0), column(&batch, |s| s.key.token.0));
        // A separate statement, because it needs a newer snapshot.
        let already = sqlx::query_scalar(ALREADY).bind(ids).bind(tokens).fetch_all(db).await?;
        for id in already {
            settled.entry(id).or_insert(Settled::Already);
        }
    }
    let lost = Settled::LeaseLost;
    Ok(column(settlements, |s| settled.get(&s.key.id.0).copied().unwrap_or(lost)))
}

/// Binds a batch, which is sorted by event id. Returns the ids of the settled events, each with
/// true if its attempt was recorded.
async fn write(
    db: &mut PgConnection,
    statement: &'static str,
    batch: &[&Settlement],
) -> sqlx::Result<Vec<(Uuid, bool)>> {
    let dispositions = column(batch, |s| match s.disposition {
        Disposition::Delivered => ("delivered", None, None),
        Disposition::RetryAfter(delay) => ("pending", None, Some(micros(delay))),
        Disposition::Dead(reason) => ("dead", Some(reason.as_str()), None),
    });
    let status_code = |status: Option<u16>| status.and_then(|status| i16::try_from(status).ok());
    // Postgres text cannot contain NUL, and an error may quote bytes of a receiver.
    let text = |error: &String| error.replace('\0', "\u{fffd}");
    sqlx::query_as(statement)
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
        .fetch_all(db)
        .await
}

/// Returns one value of each row of a batch, as they are bound.
pub(super) fn column<'a, R, T>(rows: &'a [R], value: impl FnMut(&'a R) -> T) -> Vec<T> {
    rows.iter().map(value).collect()
}
