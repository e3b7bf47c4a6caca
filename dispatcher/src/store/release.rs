//! release: returns claims without an attempt. The attempt number is used again and no attempt row
//! is written.
//!
//! Safe to run again: the second run finds no lease.

use sqlx::PgConnection;

use super::claim::micros;
use crate::event::Release;

// The batch is bound as columns sorted by id, without a join, as in settle. A batch may contain one
// event twice: a claim whose release committed but lost its reply, and the next claim. Each token
// belongs to one claim, so any token of the batch matches.
const RELEASE: &str = "
with held as materialized (
    select id from webhook_events
    where id = any ($1::uuid[]) and lease_token = any ($2::uuid[])
    order by id for update
)
update webhook_events e
set attempt_count = greatest(e.attempt_count, -2147483647) - 1,
    next_retry_at = now() + ($3::bigint[])[width_bucket(e.id, $1)] * interval '1 microsecond',
    lease_token = null, lease_until = null, claimed_at = null, holder = null
where e.id = any (array(select id from held))";

pub(super) async fn release(
    connection: &mut PgConnection,
    mut releases: Vec<Release>,
) -> Result<usize, sqlx::Error> {
    releases.sort_by_key(|release| release.key);
    let ids: Vec<_> = releases.iter().map(|release| release.key.id.0).collect();
    let tokens: Vec<_> = releases.iter().map(|release| release.key.token.0).collect();
    let delays: Vec<_> = releases
        .iter()
        .map(|release| micros(release.delay))
        .collect();
    let released = sqlx::query(RELEASE)
        .bind(ids)
        .bind(tokens)
        .bind(delays)
        .execute(connection)
        .await?;
    Ok(usize::try_from(released.rows_affected()).unwrap_or(usize::MAX))
}
