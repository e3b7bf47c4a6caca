//! What the backlog looks like, from the rows themselves: a counter kept beside them would drift. Reads only.

use std::time::Duration;

use sqlx::{PgConnection, Row};
use tokio::time::timeout_at;

use super::{PgStore, StoreError};

/// Due events are counted up to here, so that a look at a deep backlog stays cheap.
const DUE_COUNTED_MAX: i64 = 100_000;

/// The backlog at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Gauges {
    /// Events that are due and hold no lease, counted up to 100,000.
    pub due: i64,
    /// How long the oldest of them has been due.
    pub oldest_due_age: Duration,
}

const GAUGES: &str = "
select count(*) as due, coalesce(extract(epoch from now() - min(next_retry_at)), 0)::float8 as age
from (select next_retry_at from webhook_events
      where status = 'pending' and next_retry_at <= now() and lease_token is null
      order by next_retry_at limit $1) due";

impl PgStore {
    /// Looks at the backlog.
    ///
    /// # Errors
    /// Postgres does not answer.
    pub async fn gauges(&self) -> Result<Gauges, StoreError> {
        let mut lent = self.health.lend("looking at the backlog").await?;
        let done = timeout_at(lent.deadline, gauges(lent.connection())).await;
        lent.conclude(done)
    }
}

async fn gauges(connection: &mut PgConnection) -> Result<Gauges, sqlx::Error> {
    let row = sqlx::query(GAUGES)
        .bind(DUE_COUNTED_MAX)
        .fetch_one(connection)
        .await?;
    let age: f64 = row.try_get("age")?;
    Ok(Gauges {
        due: row.try_get("due")?,
        oldest_due_age: Duration::from_secs_f64(age.max(0.0)),
    })
}
