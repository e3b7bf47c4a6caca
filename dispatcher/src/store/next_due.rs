//! Reads the time until the next event is due, for the timer of the claim scheduler. Changes
//! nothing.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::time::StoredTime;

// The lower bound is `now()` of the claim. Otherwise an event that became due between the two
// statements would wait for the next poll.
const NEXT_DUE: &str = "
select next_retry_at, now() as now from webhook_events
where status = 'pending' and next_retry_at > $1 and lease_token is null
order by next_retry_at limit 1";

pub(super) async fn next_due(
    db: &mut PgConnection,
    after: DateTime<Utc>,
) -> sqlx::Result<Option<Duration>> {
    let row = sqlx::query_as(NEXT_DUE).bind(after).fetch_optional(db).await?;
    let until = |(due, now): (StoredTime, DateTime<Utc>)| (due.0 - now).to_std();
    Ok(row.map(|times| until(times).unwrap_or(Duration::ZERO)))
}
