//! claim: due events that hold no lease get one, with a fresh token each, and their attempt begins.
//!
//! Safe to run from many processes at once: a row that another claim has locked is skipped, and a row that has a lease is
//! no candidate. Running it again after a lost reply leaves the first batch to its leases: reclaim ends them.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};

use super::{CLAIM_BATCH_MAX, ClaimLimit, Claimed};
use crate::event::{Claim, ClaimKey, EventId, LeaseToken, WorkerId};

/// The statement itself, public so that a proof can look at its plan.
// Materialized: the planner may not run the locking scan more than once. The scan is of one table, by one index, without
// any further filter; `now()` comes back even when nothing was due. What would be too many bytes for one reply is locked with
// the rest and left alone; sizes are in the rows' heads, and are summed in the order of the scan, without a sort. The update
// finds the rows by where they lie, which their locks hold still, and not by a join: a join's plan for a large guess reads
// the whole table. Should a row have moved just before it was locked, it is passed over, and stays due. Where the scan begins
// is the caller's to say: at the left end of the index lie the leased and, until they are vacuumed away, all that were due.
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
    holder: WorkerId,
    lease: Duration,
    limit: ClaimLimit,
) -> Result<Claimed, sqlx::Error> {
    let rows = sqlx::query(CLAIM)
        .bind(i64::try_from(limit.events.min(CLAIM_BATCH_MAX)).unwrap_or(i64::MAX))
        .bind(micros(lease))
        .bind(holder.0)
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
    let claims = rows.iter().filter_map(|row| claimed(row).transpose());
    Ok(Claimed {
        now,
        first_due,
        claims: claims.collect::<Result<_, _>>()?,
    })
}

fn claimed(row: &PgRow) -> Result<Option<Claim>, sqlx::Error> {
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

/// A length of time as Postgres counts it.
pub(super) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
