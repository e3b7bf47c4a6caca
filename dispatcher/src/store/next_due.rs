//! Reads the time until the next event is due, for the timer of the claim scheduler. Changes
//! nothing.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::time::time;

// The lower bound is `now()` of the claim. Otherwise an event that became due between the two
// statements would wait for the next poll.
const NEXT_DUE: &str = "
select next_retry_at, now() as now from webhook_events
where status = 'pending' and next_retry_at > $1 and lease_token is null
order by next_retry_at limit 1";

pub(super) async fn next_due(
    connection: &mut PgConnection,
    after: DateTime<Utc>,
) -> Result<Option<Duration>, sqlx::Error> {
    let row = sqlx::query(NEXT_DUE).bind(after).fetch_optional(connection).await?;
    let Some(row) = row else { return Ok(None) };
    let (due, now) = (time(&row, "next_retry_at")?, time(&row, "now")?);
    Ok(Some((due - now).to_std().unwrap_or(Duration::ZERO)))
}
