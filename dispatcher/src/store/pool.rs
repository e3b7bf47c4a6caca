//! Runs one database operation under one deadline on a session of a pool.
//!
//! The deadline covers the wait for a session and the statements. A session whose operation timed
//! out or was dropped may still receive a reply. So it is closed and never returned to the pool.

use std::sync::Arc;
use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::time::{Instant, sleep, timeout_at};

use super::error::{StoreError, is_of_session, is_rolled_back};
use super::places::{Claimant, Lane};
use super::sessions::Sessions;

/// Pauses between repetitions of statements that Postgres rolled back. The first repetition has
/// none.
const REPEAT_PAUSE_MIN: Duration = Duration::from_millis(1);
const REPEAT_PAUSE_MAX: Duration = Duration::from_millis(50);

/// The server ends a statement this long before its caller gives it up.
const STATEMENT_MARGIN: Duration = Duration::from_millis(100);

/// Sessions to one database with one timeout per operation.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    sessions: Arc<Sessions>,
    lane: Lane,
    timeout: Duration,
    /// Time of the statements beyond the timeout.
    extra: Duration,
}

impl Pool {
    pub(super) fn new(sessions: Arc<Sessions>, lane: Lane, timeout: Duration) -> Self {
        Self { sessions, lane, timeout, extra: Duration::ZERO }
    }

    /// Gives statements that carry many bytes `extra` time beyond the timeout.
    pub(super) fn with_extra(&self, extra: Duration) -> Self {
        Self { extra, ..self.clone() }
    }

    /// Runs `statements` on a session, and again if Postgres rolls them back for the sake of other
    /// transactions. `operation` names them in errors.
    pub(super) async fn run<T>(
        &self,
        operation: &'static str,
        statements: impl AsyncFnOnce(&mut PgConnection) -> sqlx::Result<T> + Clone,
    ) -> Result<T, StoreError> {
        let deadline = Instant::now() + self.timeout;
        let acquired = timeout_at(deadline, self.sessions.acquire(self.lane)).await;
        let mut lent = acquired.map_err(|_| self.no_session(operation))?;
        let db = lent.connection();
        let running = async {
            if self.extra.is_zero() {
                return repeated(db, statements).await;
            }
            let limit = self.timeout + self.extra - STATEMENT_MARGIN;
            let limit = format!("set statement_timeout = {}", limit.as_millis());
            sqlx::raw_sql(AssertSqlSafe(limit)).execute(&mut *db).await?;
            let value = repeated(db, statements).await?;
            sqlx::raw_sql("reset statement_timeout").execute(&mut *db).await?;
            // The buffers have the size of the largest statement so far.
            db.shrink_buffers();
            Ok(value)
        };
        let Ok(result) = timeout_at(deadline + self.extra, running).await else {
            return Err(StoreError::Unknown { operation, reason: "no reply in time".into() });
        };
        let is_of_session = result.as_ref().is_err_and(is_of_session);
        let result = result.map_err(|error| StoreError::while_running(operation, error));
        match &result {
            _ if is_of_session => lent.renew_all(),
            Ok(_) => lent.put_back(),
            // With extra time, the session may have kept its longer `statement_timeout`.
            Err(StoreError::Refused { .. }) if self.extra.is_zero() => lent.put_back(),
            // Its state is unknown, so it is closed.
            Err(_) => {}
        }
        result
    }

    /// Closes a session of a pool if the server refuses the presence session.
    pub(super) fn make_room_for_presence(&self) {
        self.sessions.make_room(Claimant::Presence);
    }

    fn no_session(&self, operation: &'static str) -> StoreError {
        let seconds = self.timeout.as_secs_f64();
        let cause = self.sessions.refusal(self.lane);
        let cause = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
        let reason = format!("no connection within {seconds} s{cause}");
        StoreError::Unavailable { operation, reason }
    }
}

/// Runs `statements` until Postgres does not roll them back. The caller limits the time.
async fn repeated<T>(
    db: &mut PgConnection,
    statements: impl AsyncFnOnce(&mut PgConnection) -> sqlx::Result<T> + Clone,
) -> sqlx::Result<T> {
    let mut pause = Duration::ZERO;
    loop {
        let result = statements.clone()(db).await;
        if !result.as_ref().is_err_and(is_rolled_back) {
            return result;
        }
        sleep(pause).await;
        pause = (pause * 2).clamp(REPEAT_PAUSE_MIN, REPEAT_PAUSE_MAX);
    }
}
