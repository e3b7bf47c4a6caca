//! claim: leases due events without a lease, each with a new lease token and the next attempt
//! number.
//!
//! Safe to run concurrently: the statement skips rows that another claim has locked, and a row with
//! a lease is not a candidate. Safe to run again after a lost reply: the first batch keeps its
//! leases until a reclaim ends them.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::error::StoreError;
use super::parts::RefusedRows;
use super::time::StoredTime;
use crate::event::{Claim, ClaimKey, EventId, LeaseToken, WorkerId};

/// Maximum number of events per claim.
pub const CLAIM_BATCH_MAX: usize = 500;

/// Payload bytes after which a claim takes no further event.
pub const CLAIM_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The limits of one claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClaimLimit {
    /// Maximum number of events.
    pub events: usize,
    /// A claim takes no event after the one whose payload brings the sum to this number of bytes.
    pub bytes: usize,
    /// Lower bound of the due time. Events that became due earlier are not claimed.
    pub due_from: Option<DateTime<Utc>>,
    /// A further bound of the due time.
    pub range: DueRange,
}

impl ClaimLimit {
    /// Limits the number of events, with the default limit of bytes and without a bound of the due
    /// time.
    pub const fn of(events: usize) -> Self {
        Self { events, bytes: CLAIM_BYTES_MAX, due_from: None, range: DueRange::ALL }
    }
}

/// A range of due times that have passed, relative to `now()` of the statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DueRange {
    /// Time since the latest due time.
    pub newest: Duration,
    /// Time since the earliest due time. `None` for no bound.
    pub oldest: Option<Duration>,
}

impl DueRange {
    /// Every due event.
    pub const ALL: Self = Self { newest: Duration::ZERO, oldest: None };
}

/// The result of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// `now()` of the statement.
    pub now: DateTime<Utc>,
    /// The earliest due time of the claimed events.
    pub first_due: Option<DateTime<Utc>>,
    /// The latest due time of the claimed events.
    pub last_due: Option<DateTime<Utc>>,
    /// The claimed events.
    pub claims: Vec<Claim>,
}

/// The statement, public so that a test can check its plan.
// Materialized, so that the planner runs the locking scan only once. The scan reads one table by
// one index without a further filter. `now()` is returned even if no event was due. Events beyond
// the limit of bytes are locked but not updated. Their sizes are in the row headers and are summed
// in scan order, without a sort. Payloads over 256 KiB, or over the limit of bytes, are not
// returned and not summed: on a slow connection, a claim with a large payload would end in its
// timeout and delay all other events. The update finds rows by `ctid`, which the locks keep stable.
// A join would do the same, but its plan for a large estimate reads the whole table. A row that
// moved before it was locked stays due. `due_from` skips the left end of the index, which holds
// leased rows and dead entries. An operator may have set any number of attempts.
pub const CLAIM: &str = "
with due as materialized (
    select ctid as place, octet_length(payload) as size from webhook_events
    where status = 'pending' and lease_token is null
        and next_retry_at <= now() - $6 * interval '1 microsecond'
        and next_retry_at >= coalesce(greatest($5, now() - $7 * interval '1 microsecond'), '-infinity')
    order by next_retry_at limit $1 for update skip locked
), summed as (
    select place, sum(bytes) over (rows unbounded preceding) - bytes as before
    from (select place, case when size <= least($4, 262144) then size else 0 end as bytes from due) returned
), claimed as (
    update webhook_events e
    set lease_token = gen_random_uuid(), lease_until = now() + $2 * interval '1 microsecond',
        claimed_at = now(), holder = $3,
        attempt_count = case when e.attempt_count between 0 and 2147483646 then e.attempt_count + 1
            when e.attempt_count < 0 then 1 else e.attempt_count end
    where e.ctid = any (array(select place from summed where before < $4))
    returning e.id, e.lease_token, e.attempt_count, e.failure_count, e.target_url, e.next_retry_at,
        octet_length(e.payload) as size, case when octet_length(e.payload) <= least($4, 262144) then e.payload end as payload
)
select now() as claimed_at, claimed.* from (values (1)) always left join claimed on true";

/// The events that [`CLAIM`] would claim.
const DUE: &str = "
select id from webhook_events
where status = 'pending' and lease_token is null
    and next_retry_at <= now() - $3 * interval '1 microsecond'
    and next_retry_at >= coalesce(greatest($2, now() - $4 * interval '1 microsecond'), '-infinity')
order by next_retry_at limit $1";

pub(super) async fn claim(
    db: &mut PgConnection,
    worker: WorkerId,
    lease: Duration,
    limit: ClaimLimit,
    refused: &RefusedRows,
) -> sqlx::Result<Claimed> {
    let rows = match claim_rows(db, worker, lease, limit, None).await {
        Err(error) if StoreError::refuses_data(&error) => {
            let (due, mut rows) = (due(db, limit).await?, Vec::new());
            let claiming = refused.in_parts("claiming", db, due, &mut rows, async |db, part| {
                claim_rows(db, worker, lease, limit, Some(part)).await
            });
            match claiming.await {
                // The claims of earlier parts are committed, so they are returned.
                Err(error) if StoreError::has_timed_out(&error) && !rows.is_empty() => {}
                result => result?,
            }
            if rows.is_empty() {
                rows = claim_rows(db, worker, lease, limit, Some(&[])).await?;
            }
            rows
        }
        rows => rows?,
    };
    let now = rows.first().ok_or(sqlx::Error::RowNotFound)?.try_get("claimed_at")?;
    let (mut due, mut claims) = (Vec::new(), Vec::new());
    for row in &rows {
        // The only row of an empty claim has no event.
        if let Some(StoredTime(at)) = row.try_get("next_retry_at")? {
            due.push(at);
            claims.push(claim_of(row)?);
        }
    }
    let (first_due, last_due) = (due.iter().min().copied(), due.iter().max().copied());
    Ok(Claimed { now, first_due, last_due, claims })
}

/// Claims due events, or those of `only` if it is given.
async fn claim_rows(
    db: &mut PgConnection,
    worker: WorkerId,
    lease: Duration,
    limit: ClaimLimit,
    only: Option<&[Uuid]>,
) -> sqlx::Result<Vec<PgRow>> {
    let statement = match only {
        None => sqlx::query(CLAIM),
        Some(_) => {
            let statement = CLAIM.replacen("order by", "and id = any ($8) order by", 1);
            sqlx::query(sqlx::AssertSqlSafe(statement)).persistent(false)
        }
    };
    let statement = statement
        .bind(i64::try_from(limit.events.min(CLAIM_BATCH_MAX)).unwrap_or(i64::MAX))
        .bind(micros(lease))
        .bind(worker.0)
        .bind(i64::try_from(limit.bytes).unwrap_or(i64::MAX))
        .bind(limit.due_from)
        .bind(micros(limit.range.newest))
        .bind(limit.range.oldest.map(micros));
    match only {
        None => statement.fetch_all(db).await,
        Some(ids) => statement.bind(ids).fetch_all(db).await,
    }
}

async fn due(db: &mut PgConnection, limit: ClaimLimit) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar(DUE)
        .bind(i64::try_from(limit.events.min(CLAIM_BATCH_MAX)).unwrap_or(i64::MAX))
        .bind(limit.due_from)
        .bind(micros(limit.range.newest))
        .bind(limit.range.oldest.map(micros))
        .fetch_all(db)
        .await
}

fn claim_of(row: &PgRow) -> sqlx::Result<Claim> {
    let (failures, size): (i32, i32) = (row.try_get("failure_count")?, row.try_get("size")?);
    let payload: Option<Vec<u8>> = row.try_get("payload")?;
    let (id, token) = (row.try_get("id")?, row.try_get("lease_token")?);
    Ok(Claim {
        key: claim_key(id, token, row.try_get("attempt_count")?),
        failure_count: u32::try_from(failures).unwrap_or(0),
        target_url: row.try_get("target_url")?,
        unfetched: payload.as_ref().map_or(size.unsigned_abs() as usize, |_| 0),
        payload: payload.unwrap_or_default(),
    })
}

/// Returns the key of a claim from the columns of its event.
pub(super) fn claim_key(id: Uuid, token: Uuid, number: i32) -> ClaimKey {
    ClaimKey { id: EventId(id), token: LeaseToken(token), number: number.unsigned_abs() }
}

/// Microseconds, the resolution of Postgres.
pub(super) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
