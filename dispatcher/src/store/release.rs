//! release: returns claims without an attempt. The attempt number is used again and no attempt row
//! is written.
//!
//! Safe to run again: the second run finds no lease.

use std::collections::BTreeMap;

use sqlx::PgConnection;

use super::claim::micros;
use super::settle::column;
use crate::event::Release;

/// Maximum number of events per release.
pub const RELEASE_BATCH_MAX: usize = 1_000;

// The batch is bound as columns sorted by id, without a join, as in settle. `width_bucket` finds
// the token of a row by binary search. A search in the whole array of tokens was quadratic: 20,000
// events took 1.2 s.
const RELEASE: &str = "
with held as materialized (
    select id from webhook_events
    where id = any ($1::uuid[]) and lease_token = ($2::uuid[])[width_bucket(id, $1)]
    order by id for update
)
update webhook_events e
set attempt_count = greatest(e.attempt_count, -2147483647) - 1,
    next_retry_at = now() + ($3::bigint[])[width_bucket(e.id, $1)] * interval '1 microsecond',
    lease_token = null, lease_until = null, claimed_at = null, holder = null
where e.id = any (array(select id from held))";

/// The releases may contain an event twice: a claim whose release committed but lost its reply, and
/// the next claim. Each statement contains it once.
pub(super) async fn release(db: &mut PgConnection, releases: &[Release]) -> sqlx::Result<usize> {
    let (mut rest, mut released) = (releases.to_vec(), 0);
    while !rest.is_empty() {
        let mut batch = BTreeMap::new();
        rest.retain(|release| {
            batch.len() >= RELEASE_BATCH_MAX
                || *batch.entry(release.key.id).or_insert(*release) != *release
        });
        let batch: Vec<_> = batch.into_values().collect();
        let statement = sqlx::query(RELEASE)
            .bind(column(&batch, |release| release.key.id.0))
            .bind(column(&batch, |release| release.key.token.0))
            .bind(column(&batch, |release| micros(release.delay)));
        released += statement.execute(&mut *db).await?.rows_affected();
    }
    Ok(usize::try_from(released).unwrap_or(usize::MAX))
}
