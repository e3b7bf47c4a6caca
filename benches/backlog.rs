//! Stores due events in bulk, with the same rows as from posts to the API.

use std::ops::Range;

use sqlx::PgPool;

// Ids are in the order of time, as from the API. The due times are 1 ms apart, in the last hour.
const FILL: &str = "
insert into webhook_events
    (id, target_url, target_given, payload, status, round,
     attempt_count, failure_count, abandon_count, next_retry_at, created_at)
select (lpad(to_hex((extract(epoch from now()) * 1000)::bigint), 12, '0') || '7'
            || lpad(to_hex(g % 4096), 3, '0') || '8' || substr(md5(random()::text), 1, 15))::uuid,
    $3 || g, true, convert_to('{\"fill\":\"' || repeat('x', 289) || '\"}', 'UTF8'),
    'pending', 0, 0, 0, 0, now() - interval '1 h' + g * interval '1 ms', now()
from generate_series($1, $2) g";

/// Stores one due event per number in one commit. The number is the last part of the target path.
///
/// # Errors
/// If the statement fails.
pub async fn fill(pool: &PgPool, target_url: &str, numbers: Range<usize>) -> anyhow::Result<()> {
    sqlx::query(FILL)
        .bind(i64::try_from(numbers.start)?)
        .bind(i64::try_from(numbers.end)? - 1)
        .bind(format!("{target_url}/"))
        .execute(pool)
        .await?;
    Ok(())
}
