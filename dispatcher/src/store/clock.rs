//! Reads the clock of the database. Changes nothing.

use chrono::{DateTime, TimeDelta, Utc};

use super::connect::PgStore;
use super::error::StoreError;

const CLOCK: &str = "select now()";

impl PgStore {
    /// Returns the clock of the database minus the clock of this process. The part of the
    /// difference that the travel time can explain is not included.
    ///
    /// # Errors
    /// Postgres is unreachable or does not reply in time.
    pub(crate) async fn clock_offset(&self) -> Result<TimeDelta, StoreError> {
        self.health
            .run("reading the clock of the database", async |db| {
                let sent_at = Utc::now();
                let now = sqlx::query_scalar(CLOCK).fetch_one(db).await?;
                Ok(offset(sent_at, now, Utc::now()))
            })
            .await
    }
}

/// Returns the distance of `now` from the interval in which it was read.
fn offset(sent_at: DateTime<Utc>, now: DateTime<Utc>, received_at: DateTime<Utc>) -> TimeDelta {
    // The clock of this process may have been set back meanwhile.
    now - now.clamp(sent_at.min(received_at), received_at.max(sent_at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offset_does_not_include_the_travel_time() {
        let at = |second| DateTime::from_timestamp(second, 0).expect("the time is valid");
        let seconds = TimeDelta::seconds;
        for (now, expected) in [(90, -10), (100, 0), (103, 0), (104, 0), (704, 600)] {
            assert_eq!(offset(at(100), at(now), at(104)), seconds(expected));
        }
        assert_eq!(offset(at(104), at(102), at(100)), seconds(0), "clock set back");
    }
}
