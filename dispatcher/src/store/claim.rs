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
}

impl ClaimLimit {
    /// Limits the number of events, with the default limit of bytes and without a lower bound of
    /// the due time.
    pub const fn of(events: usize) -> Self {
        Self {
            events,
            bytes: CLAIM_BYTES_MAX,
            due_from: None,
        }
    }
}

/// The result of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// `now()` of the statement.
    pub now: DateTime<Utc>,
    /// The earliest due time of the claimed events.
    pub first_due: Option<DateTime<Utc>>,
    /// The claimed events.
    pub claims: Vec<Claim>,
}

/// The statement, public so that a test can check its plan.
// Materialized, so that the planner runs the locking scan only once. The scan reads one table by
// one index without a further filter. `now()` is returned even if no event was due. Events beyond
// the limit of bytes are locked but not updated. Their sizes are in the row headers and are summed
// in scan order, without a sort. The update finds rows by `ctid`, which the locks keep stable. A
// join would do the same, but its plan for a large estimate reads the whole table. A row that moved
// before it was locked stays due. `due_from` skips the left end of the index, which holds leased
// rows and dead entries.
pub const CLAIM: &str = "
with due as materialized (
    select ctid as place, octet_length(payload) as bytes from webhook_events
    where status = 'pending' and next_retry_at <= now() and lease_token is null
        and next_retry_at >= coalesce($5, '-infinity')
    order by next_retry_at limit $1 for update skip locked
), summed as (
    select place, sum(bytes) over (rows unbounded preceding) - bytes as before from due
), claimed as (
    update webhook_events e
    set lease_token = gen_random_uuid(), lease_until = now() + $2 * interval '1 microsecond',
        claimed_at = now(), holder = $3, attempt_count = e.attempt_count + 1
    where e.ctid = any (array(select place from summed where before < $4))
    returning e.id, e.lease_token, e.attempt_count, e.failure_count, e.target_url, e.payload, e.next_retry_at
)
select now() as claimed_at, claimed.* from (values (1)) always left join claimed on true";

pub(super) async fn claim(
    connection: &mut PgConnection,
    worker: WorkerId,
    lease: Duration,
    limit: ClaimLimit,
) -> Result<Claimed, sqlx::Error> {
    let rows = sqlx::query(CLAIM)
        .bind(i64::try_from(limit.events.min(CLAIM_BATCH_MAX)).unwrap_or(i64::MAX))
        .bind(micros(lease))
        .bind(worker.0)
        .bind(i64::try_from(limit.bytes).unwrap_or(i64::MAX))
        .bind(limit.due_from)
        .fetch_all(connection)
        .await?;
    let now: DateTime<Utc> = rows[0].try_get("claimed_at")?;
    let mut first_due = None;
    for row in &rows {
        let due: Option<DateTime<Utc>> = row.try_get("next_retry_at")?;
        first_due = first_due.into_iter().chain(due).min();
    }
    let claims = rows.iter().filter_map(|row| claim_of(row).transpose());
    Ok(Claimed {
        now,
        first_due,
        claims: claims.collect::<Result<_, _>>()?,
    })
}

/// Returns `None` for the only row of an empty claim.
fn claim_of(row: &PgRow) -> Result<Option<Claim>, sqlx::Error> {
    let Some(id) = row.try_get("id")? else {
        return Ok(None);
    };
    let number: i32 = row.try_get("attempt_count")?;
    let failures: i32 = row.try_get("failure_count")?;
    Ok(Some(Claim {
        key: ClaimKey {
            id: EventId(id),
            token: LeaseToken(row.try_get("lease_token")?),
            number: number.unsigned_abs(),
        },
        failure_count: failures.unsigned_abs(),
        target_url: row.try_get("target_url")?,
        payload: row.try_get("payload")?,
    }))
}

/// Microseconds, the resolution of Postgres.
pub(super) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
