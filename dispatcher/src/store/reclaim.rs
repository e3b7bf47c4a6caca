//! reclaim: ends leases that have expired and leases of workers without a presence lock. Their
//! attempts become `abandoned`.
//!
//! Safe to run again and concurrently: the statement skips rows that another session has locked,
//! and an ended lease is not a candidate. A worker whose presence lock is held again loses no lease
//! to a reclaim by presence.

use std::time::Duration;

use sqlx::postgres::PgRow;
use sqlx::{FromRow, PgConnection, Row};
use uuid::Uuid;

use super::claim::{DueRange, claim_key, micros};
use super::error::StoreError;
use super::parts::RefusedRows;
use crate::event::{ClaimKey, WorkerId};

/// Maximum number of leases that one reclaim ends.
pub const RECLAIM_BATCH_MAX: usize = 1_000;

/// Why leases are ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReclaimCause {
    /// The lease has expired.
    Expired,
    /// The presence lock of this worker is absent.
    Gone(WorkerId),
}

/// The input of one reclaim. It contains all random values and delays, so that the model of the
/// simulation can repeat it.
#[derive(Clone, Debug, PartialEq)]
pub struct Reclaim {
    /// Selects the leases.
    pub cause: ReclaimCause,
    /// Delay before jitter after the k-th consecutive abandonment, from k = 1. One more abandonment
    /// makes the event dead.
    pub delays: Vec<Duration>,
    /// Jitter factors of the delays, one per lease in the order of event ids. Their number limits
    /// the batch.
    pub factors: Vec<f64>,
    /// Due times of the events.
    pub range: DueRange,
}

/// A lease that was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reclaimed {
    /// The claim that the lease belonged to.
    pub key: ClaimKey,
    /// The worker that held the lease.
    pub worker: WorkerId,
    /// Consecutive abandonments of the event, including this one.
    pub abandon_count: u32,
    /// True if the event is now dead.
    pub is_dead: bool,
    /// False if the attempt has no row, because its number exists already.
    pub is_recorded: bool,
}

const LAPSED: &str = "lease_until <= now()";

const HELD_BY_ABSENT: &str = "holder = $3
        and not exists (
            select from pg_locks l
            where l.locktype = 'advisory' and l.objsubid = 1 and l.granted
                and l.database = (select oid from pg_database where datname = current_database())
                and l.classid = ($3 >> 32)::oid and l.objid = ($3 & 4294967295)::oid
        )";

const CANDIDATES: &str = "
    from webhook_events
    where status = 'pending' and lease_token is not null
        and next_retry_at <= now() - $5 * interval '1 microsecond'
        and next_retry_at >= coalesce(now() - $6 * interval '1 microsecond', '-infinity')
        and ($7::uuid[] is null or id = any ($7)) and ";

// `for update` returns the newest version of a row, not that of the snapshot. So all columns of the
// lease are read here. An operator may have set any count.
const LOCKED: &str = "
select id, lease_token, attempt_count, claimed_at, holder,
       least(greatest(abandon_count, 0), 2147483646) as abandon_count";

const END: &str = "
ended as (
    select l.id, l.lease_token as token, l.attempt_count as number, l.claimed_at, l.holder,
           l.abandon_count + 1 as abandoned,
           l.abandon_count + 1 > cardinality($1::bigint[]) as is_dead,
           now() + ($1[l.abandon_count + 1] * $2[row_number() over (order by l.id)])
               * interval '1 microsecond' as due_at
    from lapsed l
), reclaimed as (
    update webhook_events e
    set abandon_count = x.abandoned,
        status = case when x.is_dead then 'dead' else 'pending' end,
        reason = case when x.is_dead then 'abandoned' end,
        finished_at = case when x.is_dead then now() end,
        next_retry_at = case when not x.is_dead then x.due_at end,
        lease_token = null, lease_until = null, claimed_at = null, holder = null
    from ended x where e.id = x.id
    returning x.*, e.next_retry_at
), logged as (
    insert into delivery_attempts (event_id, number, token, started_at, outcome, error, next_retry_at)
    select id, number, token, claimed_at, 'abandoned', $4, next_retry_at from reclaimed
    on conflict (event_id, number) do nothing returning event_id
)
select id, token as lease_token, number as attempt_count, holder, abandoned, is_dead,
       exists (select from logged where event_id = id) as is_recorded
from reclaimed";

pub(super) async fn reclaim(
    db: &mut PgConnection,
    reclaim: &Reclaim,
    refused: &RefusedRows,
) -> sqlx::Result<Vec<Reclaimed>> {
    let cause = match reclaim.cause {
        ReclaimCause::Expired => LAPSED,
        ReclaimCause::Gone(_) => HELD_BY_ABSENT,
    };
    let limit = "limit cardinality($2::float8[])";
    let end = format!(
        "with lapsed as materialized ({LOCKED}{CANDIDATES}{cause}
            order by id {limit} for update skip locked
        ),{END}"
    );
    let rows = match run(db, &end, reclaim, None).await {
        Err(error) if StoreError::refuses_data(&error) => {
            // In random order. Otherwise the same refused rows could fill the batch each time.
            let ids = format!("select id {CANDIDATES}{cause} order by random() {limit}");
            let ids = run(db, &ids, reclaim, None).await?;
            let ids: sqlx::Result<_> = ids.iter().map(|row| row.try_get("id")).collect();
            let mut rows = Vec::new();
            let ending = refused.in_parts("reclaiming", db, ids?, &mut rows, async |db, part| {
                run(db, &end, reclaim, Some(part)).await
            });
            ending.await?;
            rows
        }
        rows => rows?,
    };
    rows.iter().map(reclaimed_of).collect()
}

// Not prepared, because the statement is rare. A plan that was cached for a small table could read
// all of a large table for each lease.
async fn run(
    db: &mut PgConnection,
    statement: &str,
    reclaim: &Reclaim,
    only: Option<&[Uuid]>,
) -> sqlx::Result<Vec<PgRow>> {
    let delays: Vec<_> = reclaim.delays.iter().map(|delay| micros(*delay)).collect();
    let (worker, error) = match reclaim.cause {
        ReclaimCause::Expired => (None, "the lease expired before the worker settled the attempt"),
        ReclaimCause::Gone(worker) => {
            (Some(worker.0), "the presence lock of the worker was absent")
        }
    };
    sqlx::query(sqlx::AssertSqlSafe(statement.to_owned()))
        .persistent(false)
        .bind(delays)
        .bind(&reclaim.factors)
        .bind(worker)
        .bind(error)
        .bind(micros(reclaim.range.newest))
        .bind(reclaim.range.oldest.map(micros))
        .bind(only)
        .fetch_all(db)
        .await
}

fn reclaimed_of(row: &PgRow) -> sqlx::Result<Reclaimed> {
    let (id, token, number, holder, abandoned, is_dead, is_recorded) = FromRow::from_row(row)?;
    Ok(Reclaimed {
        key: claim_key(id, token, number),
        worker: WorkerId(holder),
        abandon_count: i32::unsigned_abs(abandoned),
        is_dead,
        is_recorded,
    })
}
