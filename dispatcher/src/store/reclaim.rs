//! reclaim: ends leases that have expired and leases of workers without a presence lock. Their
//! attempts become `abandoned`.
//!
//! Safe to run again and concurrently: the statement skips rows that another session has locked,
//! and an ended lease is not a candidate. A worker whose presence lock is held again loses no lease
//! to a reclaim by presence.

use std::time::Duration;

use sqlx::{PgConnection, Row};

use super::claim::micros;
use crate::event::{ClaimKey, EventId, LeaseToken, WorkerId};

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
}

// `for update` returns the newest version of a row, not that of the snapshot. So all columns of the
// lease are read here.
const LAPSED: &str = "
with lapsed as materialized (
    select id, lease_token, attempt_count, claimed_at, holder, abandon_count from webhook_events
    where status = 'pending' and next_retry_at <= now() and lease_until <= now()
    order by id limit cardinality($2::float8[]) for update skip locked
),";

const HELD_BY_ABSENT: &str = "
with lapsed as materialized (
    select id, lease_token, attempt_count, claimed_at, holder, abandon_count from webhook_events
    where status = 'pending' and next_retry_at <= now() and holder = $3
        and not exists (
            select from pg_locks l
            where l.locktype = 'advisory' and l.objsubid = 1 and l.granted
                and l.database = (select oid from pg_database where datname = current_database())
                and l.classid = ($3 >> 32)::oid and l.objid = ($3 & 4294967295)::oid
        )
    order by id limit cardinality($2::float8[]) for update skip locked
),";

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
)
select id, token, number, holder, abandoned, is_dead from reclaimed";

pub(super) async fn reclaim(
    connection: &mut PgConnection,
    reclaim: Reclaim,
) -> Result<Vec<Reclaimed>, sqlx::Error> {
    let delays: Vec<_> = reclaim.delays.iter().map(|delay| micros(*delay)).collect();
    let (candidates, worker, error) = match reclaim.cause {
        ReclaimCause::Expired => (
            LAPSED,
            None,
            "the lease expired before the worker settled the attempt",
        ),
        ReclaimCause::Gone(worker) => (
            HELD_BY_ABSENT,
            Some(worker.0),
            "the presence lock of the worker was absent",
        ),
    };
    // Not prepared, because the statement is rare. A plan that was cached for a small table could
    // read all of a large table for each lease.
    let rows = sqlx::query(sqlx::AssertSqlSafe(format!("{candidates}{END}")))
        .persistent(false)
        .bind(delays)
        .bind(&reclaim.factors)
        .bind(worker)
        .bind(error)
        .fetch_all(connection)
        .await?;
    rows.iter().map(reclaimed_of).collect()
}

fn reclaimed_of(row: &sqlx::postgres::PgRow) -> Result<Reclaimed, sqlx::Error> {
    let (number, abandoned): (i32, i32) = (row.try_get("number")?, row.try_get("abandoned")?);
    Ok(Reclaimed {
        key: ClaimKey {
            id: EventId(row.try_get("id")?),
            token: LeaseToken(row.try_get("token")?),
            number: number.unsigned_abs(),
        },
        worker: WorkerId(row.try_get("holder")?),
        abandon_count: abandoned.unsigned_abs(),
        is_dead: row.try_get("is_dead")?,
    })
}
