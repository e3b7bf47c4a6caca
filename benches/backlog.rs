//! Stores due events in bulk, with the same rows as from posts to the API.

use std::ops::Range;

use sqlx::{AssertSqlSafe, PgPool};

// Ids are in the order of time, as from the API. The due times are 1 ms apart.
const FILL: &str = "
insert into webhook_events
    (id, target_url, target_given, payload, status, round,
     attempt_count, failure_count, abandon_count, next_retry_at, created_at)
select (lpad(to_hex((extract(epoch from now()) * 1000)::bigint), 12, '0') || '7'
            || lpad(to_hex(g % 4096), 3, '0') || '8' || substr(md5(random()::text), 1, 15))::uuid,
    ($3::text[])[1 + g % cardinality($3::text[])] || '/' || g, true, convert_to('{\"fill\":\"' || repeat('x', 289) || '\"}', 'UTF8'),
    'pending', 0, 0, 0, 0, now() + $4 * interval '1 s' + g * interval '1 ms', now()
from generate_series($1, $2) g";

/// First due time of due events, relative to now.
const PAST_SECONDS: f64 = -3_600.0;
/// First due time of future events, relative to now. No benchmark takes that long.
const FUTURE_SECONDS: f64 = 86_400.0;

/// Stores one due event per number in one commit. The number is the last part of the target path.
///
/// # Errors
/// If the statement fails.
pub async fn fill(pool: &PgPool, target_url: &str, numbers: Range<usize>) -> anyhow::Result<()> {
    fill_at(pool, &[target_url.to_owned()], numbers, PAST_SECONDS).await
}

/// The same for several targets in turn.
///
/// # Errors
/// If the statement fails.
pub async fn fill_all(
    pool: &PgPool,
    target_urls: &[String],
    numbers: Range<usize>,
) -> anyhow::Result<()> {
    fill_at(pool, target_urls, numbers, PAST_SECONDS).await
}

/// Stores events that become due in a day.
///
/// # Errors
/// If the statement fails.
pub async fn fill_future(
    pool: &PgPool,
    target_url: &str,
    numbers: Range<usize>,
) -> anyhow::Result<()> {
    fill_at(pool, &[target_url.to_owned()], numbers, FUTURE_SECONDS).await
}

async fn fill_at(
    pool: &PgPool,
    target_urls: &[String],
    numbers: Range<usize>,
    due_seconds: f64,
) -> anyhow::Result<()> {
    sqlx::query(FILL)
        .bind(i64::try_from(numbers.start)?)
        .bind(i64::try_from(numbers.end)? - 1)
        .bind(target_urls)
        .bind(due_seconds)
        .execute(pool)
        .await?;
    Ok(())
}

/// Updates the statistics and writes the dirty pages, so that neither happens in a measurement.
///
/// # Errors
/// If a statement fails.
pub async fn settle_down(pool: &PgPool, table: &'static str) -> anyhow::Result<()> {
    let vacuum = format!("vacuum analyze {table}");
    sqlx::query(AssertSqlSafe(vacuum)).execute(pool).await?;
    sqlx::query("checkpoint").execute(pool).await?;
    Ok(())
}
