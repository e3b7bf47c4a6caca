//! Reads the leases of one worker, for the search for orphaned claims. Changes nothing: the worker
//! releases each orphan by its token.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::claim::claim_key;
use crate::event::{ClaimKey, WorkerId};

/// The leases of a worker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnLeases {
    /// The claims that the leases belong to, ordered by event id.
    pub keys: Vec<ClaimKey>,
    /// True if a claim or an insert whose reply was lost may still commit.
    pub may_grow: bool,
}

// A claim that waits for a lost standby after its commit is active too. A claim of another worker
// only prolongs the search. The texts are the starts of the statements that make leases.
const RUNNING: &str = "
select exists (
    select from pg_stat_activity
    where datname = current_database() and pid <> pg_backend_pid() and state = 'active'
        and query_start < now() - interval '1 s'
        and ltrim(query, E'\\n') similar to 'with (due|wait) as materialized%'
)";

// Without an index on the worker id, because a claim must change no indexed column. The bound keeps
// the scan away from most dead entries.
const LEASES: &str = "
select id, lease_token, attempt_count from webhook_events
where status = 'pending' and holder = $1 and next_retry_at >= coalesce($2, '-infinity')
order by id";

/// Reads the leases on events that are due from `due_from` on.
pub(super) async fn own_leases(
    db: &mut PgConnection,
    worker: WorkerId,
    due_from: Option<DateTime<Utc>>,
) -> sqlx::Result<OwnLeases> {
    // The running statements are read first: one that ends before the second read is visible to it.
    let may_grow = sqlx::query_scalar(RUNNING).fetch_one(&mut *db).await?;
    let rows = sqlx::query_as(LEASES).bind(worker.0).bind(due_from).fetch_all(db).await?;
    let keys = rows.into_iter().map(|(id, token, number)| claim_key(id, token, number));
    Ok(OwnLeases { keys: keys.collect(), may_grow })
}
