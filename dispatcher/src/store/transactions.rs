//! Watches for transactions that stay open. While one is open, VACUUM cannot remove rows and index
//! entries that died after its start, and scans of due events become slower.

use std::time::Duration;

use sqlx::PgConnection;
use tokio::time::sleep;

use super::connect::PgStore;
use super::error::StoreError;

/// Interval of the reads.
const WATCH_EVERY: Duration = Duration::from_secs(30);

/// Age from which an open transaction is logged.
const LONG: Duration = Duration::from_secs(300);

/// The oldest open transaction of the database.
#[derive(Clone, Debug, PartialEq)]
pub struct OldestTransaction {
    /// Process id of the session. `None` for a prepared transaction.
    pub pid: Option<i32>,
    /// Database user of the session.
    pub user: String,
    /// Name that the session gave itself, or the name of the prepared transaction.
    pub application: String,
    /// Time since its start.
    pub age: Duration,
}

// Without `pg_read_all_stats`, only the sessions of the same user are visible. VACUUM does not keep
// dead rows of others.
const OLDEST: &str = "
select pid, user_name, application, extract(epoch from now() - since)::float8 as age from (
    select pid, coalesce(usename::text, '') as user_name, coalesce(application_name, '') as application,
           xact_start as since
    from pg_stat_activity
    where datname = current_database() and xact_start is not null and pid <> pg_backend_pid()
        and backend_type <> 'autovacuum worker'
    union all
    select null, owner::text, 'prepared transaction ' || gid, prepared
    from pg_prepared_xacts where database = current_database()
) open order by since limit 1";

impl PgStore {
    /// Reads the oldest open transaction of the database, except the one of this read.
    ///
    /// # Errors
    /// Postgres is unreachable or does not reply in time.
    pub async fn oldest_transaction(&self) -> Result<Option<OldestTransaction>, StoreError> {
        self.work.run("reading the open transactions", oldest_transaction).await
    }

    /// Logs a transaction that is open for 300 s, and again after another 300 s. Never returns.
    pub async fn watch_transactions(self) {
        loop {
            sleep(WATCH_EVERY).await;
            // The worker reports an unavailable database.
            let oldest = self.oldest_transaction().await.ok().flatten();
            if let Some(oldest) = oldest.filter(|oldest| oldest.age >= LONG) {
                tracing::warn!(
                    pid = oldest.pid,
                    user = oldest.user,
                    application_name = oldest.application,
                    age_s = oldest.age.as_secs(),
                    "a transaction stays open, dead rows cannot be removed and claims become \
                     slower; end it"
                );
                sleep(LONG).await;
            }
        }
    }
}

pub(super) async fn oldest_transaction(
    db: &mut PgConnection,
) -> sqlx::Result<Option<OldestTransaction>> {
    let row = sqlx::query_as(OLDEST).fetch_optional(db).await?;
    Ok(row.map(|(pid, user, application, age)| OldestTransaction {
        pid,
        user,
        application,
        age: seconds(age),
    }))
}

/// Converts seconds of Postgres, which may be negative after a step of the clock, or infinite.
pub(super) fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX)
}
