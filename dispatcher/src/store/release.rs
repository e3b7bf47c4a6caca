//! release: claims go back unsent; no attempt is burnt and no row is written. Safe to run twice: the second finds no lease.

use sqlx::PgConnection;

use super::claim::micros;
use crate::event::Release;

const RELEASE: &str = "
with input as materialized (
    select * from unnest($1::uuid[], $2::uuid[], $3::bigint[]) as t (id, token, delay_us)
), held as materialized (
    select e.id from webhook_events e join input i on i.id = e.id and i.token = e.lease_token
    order by e.id for update of e
)
update webhook_events e
set attempt_count = e.attempt_count - 1, next_retry_at = now() + i.delay_us * interval '1 microsecond',
    lease_token = null, lease_until = null, claimed_at = null, holder = null
from input i join held h on h.id = i.id
where e.id = i.id";

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
