//! settle: writes ended attempts and their dispositions, each fenced by its lease token.
//!
//! Safe to run again: a token whose lease has ended matches no event. Then the attempt row shows
//! whether an earlier run of the same settle committed. Locks are taken in the order of ids, as in
//! every batch, so that batches do not deadlock.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

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

/// A batch of settlements as columns, sorted by event id.
#[derive(Default)]
pub(super) struct SettleColumns {
    /// The ids in the order of the caller, for the results.
    order: Vec<EventId>,
    ids: Vec<Uuid>,
    tokens: Vec<Uuid>,
    numbers: Vec<i32>,
    statuses: Vec<&'static str>,
    reasons: Vec<Option<&'static str>>,
    delays: Vec<Option<i64>>,
    started: Vec<DateTime<Utc>>,
    durations: Vec<i64>,
    outcomes: Vec<&'static str>,
    status_codes: Vec<Option<i16>>,
    errors: Vec<Option<String>>,
    responses: Vec<Option<Vec<u8>>>,
}

impl SettleColumns {
    pub(super) fn of(settlements: &[Settlement]) -> Self {
        let mut columns = Self::default();
        let sorted: BTreeMap<_, _> = settlements.iter().map(|s| (s.key.id, s)).collect();
        for settlement in sorted.into_values() {
            columns.push(settlement);
        }
        columns.order = settlements.iter().map(|settlement| settlement.key.id).collect();
        columns
    }

    fn push(&mut self, settlement: &Settlement) {
        let (status, reason, delay) = match settlement.disposition {
            Disposition::Delivered => ("delivered", None, None),
            Disposition::RetryAfter(delay) => ("pending", None, Some(micros(delay))),
            Disposition::Dead(reason) => ("dead", Some(reason.as_str()), None),
        };
        let result = &settlement.result;
        self.ids.push(settlement.key.id.0);
        self.tokens.push(settlement.key.token.0);
        self.numbers.push(i32::try_from(settlement.key.number).unwrap_or(i32::MAX));
        self.statuses.push(status);
        self.reasons.push(reason);
        self.delays.push(delay);
        self.started.push(settlement.started_at);
        self.durations.push(i64::try_from(settlement.duration.as_millis()).unwrap_or(i64::MAX));
        self.outcomes.push(result.outcome.as_str());
        self.status_codes
            .push(result.outcome.status().and_then(|status| i16::try_from(status).ok()));
        // Postgres text cannot contain NUL, and an error may quote bytes of a receiver.
        self.errors.push(result.error.as_ref().map(|error| error.replace('\0', "\u{fffd}")));
        self.responses.push(result.snippet.clone());
    }
}

pub(super) async fn settle(
    connection: &mut PgConnection,
    columns: &SettleColumns,
) -> Result<Vec<Settled>, sqlx::Error> {
    let rows = match write(connection, SETTLE, columns).await {
        Err(sqlx::Error::Database(reply)) if reply.code().as_deref() == Some(UNIQUE_VIOLATION) => {
            write(connection, SETTLE_UNRECORDED, columns).await?
        }
        result => result?,
    };
    let mut settled = BTreeMap::new();
    for row in &rows {
        let is_recorded: bool = row.try_get("is_recorded")?;
        let written = if is_recorded { Settled::Now } else { Settled::Unrecorded };
        settled.insert(EventId(row.try_get("id")?), written);
    }
    if settled.len() < columns.ids.len() {
        for id in already(connection, columns).await? {
            settled.entry(id).or_insert(Settled::Already);
        }
    }
    let settled_of = |id| settled.get(id).copied().unwrap_or(Settled::LeaseLost);
    Ok(columns.order.iter().map(settled_of).collect())
}

async fn write(
    connection: &mut PgConnection,
    statement: &'static str,
    columns: &SettleColumns,
) -> Result<Vec<PgRow>, sqlx::Error> {
    sqlx::query(statement)
        .bind(&columns.ids)
        .bind(&columns.tokens)
        .bind(&columns.numbers)
        .bind(&columns.statuses)
        .bind(&columns.reasons)
        .bind(&columns.delays)
        .bind(&columns.started)
        .bind(&columns.durations)
        .bind(&columns.outcomes)
        .bind(&columns.status_codes)
        .bind(&columns.errors)
        .bind(&columns.responses)
        .fetch_all(connection)
        .await
}

/// Returns the events of the batch that an earlier run settled. A separate statement, because it
/// needs a newer snapshot.
async fn already(
    connection: &mut PgConnection,
    columns: &SettleColumns,
) -> Result<Vec<EventId>, sqlx::Error> {
    let rows =
        sqlx::query(ALREADY).bind(&columns.ids).bind(&columns.tokens).fetch_all(connection).await?;
    rows.iter().map(|row| row.try_get("event_id").map(EventId)).collect()
}
