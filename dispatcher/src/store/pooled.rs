//! One open session of a pool, and the process of the server that serves it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use tokio::time::{Instant, timeout};

use super::session::{Session, no_reply};

/// Timeout of the query for the process of a new session.
const BACKEND_TIMEOUT: Duration = Duration::from_secs(1);

const BACKEND: &str = "
select pid, backend_start as started_at from pg_stat_activity
where pid = pg_backend_pid() and backend_start is not null";

/// Also false for a session that is idle: its reply was lost on the way.
const IS_RUNNING: &str = "
select exists (
    select from pg_stat_activity where pid = $1 and backend_start = $2 and state <> 'idle'
)";

#[derive(Debug)]
pub(super) struct Pooled {
    pub(super) connection: PgConnection,
    pub(super) backend: Option<Backend>,
    pub(super) opened_at: Instant,
    pub(super) idle_since: Instant,
}

/// The process of the server that serves a session. The pid alone may be used again.
#[derive(Clone, Copy, Debug, sqlx::FromRow)]
pub(super) struct Backend {
    pid: i32,
    started_at: DateTime<Utc>,
}

impl Pooled {
    /// Opens a session.
    pub(super) async fn open(options: &Session) -> Result<Self, sqlx::Error> {
        let opened_at = Instant::now();
        let mut connection = options.open().await?;
        let reading = sqlx::query_as(BACKEND).persistent(false).fetch_optional(&mut connection);
        let backend =
            timeout(BACKEND_TIMEOUT, reading).await.unwrap_or_else(|_| Err(no_reply()))?;
        Ok(Self { connection, backend, opened_at, idle_since: Instant::now() })
    }
}

impl Backend {
    /// Returns true if this process still runs a statement, according to another session.
    pub(super) async fn is_running(self, db: &mut PgConnection) -> sqlx::Result<bool> {
        let query = sqlx::query_scalar(IS_RUNNING).bind(self.pid).bind(self.started_at);
        query.fetch_one(db).await
    }
}
