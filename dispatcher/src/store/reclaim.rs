//! reclaim: the only way a lease ends without its holder. Its attempt becomes `abandoned`, on record.
//!
//! Safe to run twice, and by many at once: a row that anybody else has locked is skipped, and a lease that ended is no
//! candidate. A holder that is back (its lock is held again) loses nothing to a reclaim by presence.

use std::time::Duration;

use sqlx::{PgConnection, Row};

use super::claim::micros;
use crate::event::{ClaimKey, EventId, LeaseToken, WorkerId};

/// Whose leases are ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReclaimCause {
    /// Every lease that ran out.
    Expired,
    /// Every lease of a holder that is known to be gone.
    Gone(WorkerId),
}

/// One reclaim. All chance and all policy come with it, so that a model of the store can repeat it.
#[derive(Clone, Debug, PartialEq)]
pub struct Reclaim {
    /// Whose leases.
    pub cause: ReclaimCause,
    /// The delay before jitter after the k-th abandonment in a row, from k = 1; the event is dead at one more.
    pub delays: Vec<Duration>,
    /// A share of the jitter, in `[0, 1]`, for each event in the order of ids; as many as leases may be ended.
    pub jitters: Vec<f64>,
}

/// One lease that was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reclaimed {
    /// The claim that it was.
    pub key: ClaimKey,
    /// Who held it.
    pub holder: WorkerId,
    /// Abandonments in a row, this one included.
    pub abandon_count: u32,
    /// Whether that was one too many.
    pub dead: bool,
}

// The row that `for update` returns is the newest one, not the snapshot's: all that is known of the lease comes from there.
const LAPSED: &str = "
with lapsed as materialized (
    select id, lease_token, attempt_count, claimed_at, holder, abandon_count from webhook_events
    where status = 'pending' and next_retry_at <= now() and lease_until <= now()
    order by id limit cardinality($2::float8[]) for update skip locked
),";

const HELD_BY_THE_GONE: &str = "
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
           now() + ($1[l.abandon_count + 1] * (1 + 0.25 * $2[row_number() over (order by l.id)]))
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
    let (candidates, holder, why) = match reclaim.cause {
        ReclaimCause::Expired => (
            LAPSED,
            None,
            "its lease ran out before its worker settled it",
        ),
        ReclaimCause::Gone(holder) => (HELD_BY_THE_GONE, Some(holder.0), "its worker is gone"),
    };
    // Planned anew each time: it is a rare statement, and a plan kept from when the table was small could read all of a large
    // one for every lease.
    let rows = sqlx::query(sqlx::AssertSqlSafe(format!("{candidates}{END}")))
        .persistent(false)
        .bind(delays)
        .bind(&reclaim.jitters)
        .bind(holder)
        .bind(why)
        .fetch_all(connection)
        .await?;
    rows.iter().map(reclaimed).collect()
}

fn reclaimed(row: &sqlx::postgres::PgRow) -> Result<Reclaimed, sqlx::Error> {
    let (number, abandoned): (i32, i32) = (row.try_get("number")?, row.try_get("abandoned")?);
    Ok(Reclaimed {
        key: ClaimKey {
            id: EventId(row.try_get("id")?),
            token: LeaseToken(row.try_get("token")?),
            number: number.unsigned_abs(),
        },
        holder: WorkerId(row.try_get("holder")?),
        abandon_count: abandoned.unsigned_abs(),
        dead: row.try_get("is_dead")?,
    })
}
