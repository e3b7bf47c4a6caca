//! A backlog: events that are due, stored in bulk as the API would have stored them one by one.

use std::ops::Range;

use sqlx::PgPool;

// Ids in the order of time, as the API makes them. The due times lie a millisecond apart, in the last hour.
const FILL: &str = "
insert into webhook_events
    (id, target_url, target_given, payload, status, round,
     attempt_count, failure_count, abandon_count, next_retry_at, created_at)
select (lpad(to_hex((extract(epoch from now()) * 1000)::bigint), 12, '0') || '7'
            || lpad(to_hex(g % 4096), 3, '0') || '8' || substr(md5(random()::text), 1, 15))::uuid,
    $3 || g, true, convert_to('{\"fill\":\"' || repeat('x', 289) || '\"}', 'UTF8'),
    'pending', 0, 0, 0, 0, now() - interval '1 h' + g * interval '1 ms', now()
from generate_series($1, $2) g";

/// Adds due events in one commit, one for each number; it is the last part of its target's path.
///
/// # Errors
/// When the database does not answer.
pub async fn fill(pool: &PgPool, target_url: &str, numbers: Range<usize>) -> anyhow::Result<()> {
    sqlx::query(FILL)
        .bind(i64::try_from(numbers.start)?)
        .bind(i64::try_from(numbers.end)? - 1)
        .bind(format!("{target_url}/"))
        .execute(pool)
        .await?;
    Ok(())
}
