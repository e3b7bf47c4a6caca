//! Reads the size and age of the backlog from the rows. A counter beside them would drift.

use std::time::Duration;

use super::connect::PgStore;
use super::error::StoreError;
use super::transactions::{oldest_transaction, seconds};

/// Due events are counted up to this number, so that the cost of reading a deep backlog is bounded.
const DUE_COUNTED_MAX: i64 = 100_000;

/// The backlog at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Gauges {
    /// Number of due events without a lease, counted up to 100,000.
    pub due: i64,
    /// Time since the oldest of them became due.
    pub oldest_due_age: Duration,
    /// Age of the oldest open transaction of the database.
    pub oldest_transaction_age: Duration,
}

const GAUGES: &str = "
select count(*) as due,
       coalesce(extract(epoch from now()) - extract(epoch from min(next_retry_at)), 0)::float8 as age
from (select next_retry_at from webhook_events
      where status = 'pending' and next_retry_at <= now() and lease_token is null
      order by next_retry_at limit $1) due";

impl PgStore {
    /// Reads the backlog.
    ///
    /// # Errors
    /// Postgres is unreachable or does not reply in time.
    pub async fn gauges(&self) -> Result<Gauges, StoreError> {
        // Not over the connection for health: a deep backlog must not delay a health check.
        self.accept
            .run("reading the backlog", async |db| {
                let statement = sqlx::query_as(GAUGES).bind(DUE_COUNTED_MAX);
                let (due, age) = statement.fetch_one(&mut *db).await?;
                let oldest = oldest_transaction(db).await?;
                Ok(Gauges {
                    due,
                    oldest_due_age: seconds(age),
                    oldest_transaction_age: oldest.map_or(Duration::ZERO, |oldest| oldest.age),
                })
            })
            .await
    }
}
