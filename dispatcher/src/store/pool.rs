//! Runs one database operation under one deadline on a session of a pool.
//!
//! The deadline covers the wait for a session and the statements. A session whose operation timed
//! out or was dropped may still receive a reply. So it is closed and never returned to the pool.

use std::sync::Arc;
use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::time::error::Elapsed;
use tokio::time::{Instant, sleep, timeout_at};

use super::error::{StoreError, is_of_session, is_rolled_back};
use super::places::{Claimant, Lane};
use super::sessions::{Lent, Sessions};

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
}

impl Pool {
    pub(super) fn new(sessions: Arc<Sessions>, lane: Lane, timeout: Duration) -> Self {
        Self { sessions, lane, timeout }
    }

    /// Runs `statements` on a session, and again if Postgres rolls them back for the sake of other
    /// transactions. `operation` names them in errors.
    pub(super) async fn run<T>(
        &self,
        operation: &'static str,
        statements: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error> + Clone,
    ) -> Result<T, StoreError> {
        self.run_for(operation, Duration::ZERO, statements).await
    }

    /// Like [`Self::run`]. The statements may take `extra` time beyond the timeout of the pool,
    /// because they carry many bytes.
    pub(super) async fn run_for<T>(
        &self,
        operation: &'static str,
        extra: Duration,
        statements: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error> + Clone,
    ) -> Result<T, StoreError> {
        let start = Instant::now();
        let deadline = start + self.timeout;
        let acquired = timeout_at(deadline, self.sessions.acquire(self.lane)).await;
        let mut lent = acquired.map_err(|_| self.no_session(operation))?;
        let connection = lent.connection();
        let running = async {
            if extra.is_zero() {
                return repeated(connection, statements).await;
            }
            let limit = self.timeout + extra - STATEMENT_MARGIN;
            let limit = format!("set statement_timeout = {}", limit.as_millis());
            sqlx::raw_sql(AssertSqlSafe(limit)).execute(&mut *connection).await?;
            let value = repeated(connection, statements).await?;
            sqlx::raw_sql("reset statement_timeout").execute(&mut *connection).await?;
            // The buffers have the size of the largest statement so far.
            connection.shrink_buffers();
            Ok(value)
        };
        let result = timeout_at(deadline + extra, running).await;
        finish(lent, operation, extra, result)
    }

    /// Closes a session of a pool if the server refuses the presence session.
    pub(super) fn make_room_for_presence(&self) {
        self.sessions.make_room(Claimant::Presence);
    }

    fn no_session(&self, operation: &'static str) -> StoreError {
        let seconds = self.timeout.as_secs_f64();
        let cause = self.sessions.refusal(self.lane);
        let cause = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
        StoreError::Unavailable {
            operation,
            reason: format!("no connection within {seconds} s{cause}"),
        }
    }
}

/// Runs `statements` until Postgres does not roll them back. The caller limits the time.
async fn repeated<T>(
    connection: &mut PgConnection,
    statements: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error> + Clone,
) -> Result<T, sqlx::Error> {
    let mut pause = Duration::ZERO;
    loop {
        let result = statements.clone()(connection).await;
        if !result.as_ref().is_err_and(is_rolled_back) {
            return result;
        }
        sleep(pause).await;
        pause = (pause * 2).clamp(REPEAT_PAUSE_MIN, REPEAT_PAUSE_MAX);
    }
}

/// Returns the session to the pool if its state is known. Classifies the error if there is one.
fn finish<T>(
    lent: Lent,
    operation: &'static str,
    extra: Duration,
    result: Result<Result<T, sqlx::Error>, Elapsed>,
) -> Result<T, StoreError> {
    match result {
        Ok(Ok(value)) => {
            lent.put_back();
            Ok(value)
        }
        Ok(Err(error)) => {
            let is_of_session = is_of_session(&error);
            let error = StoreError::while_running(operation, error);
            if is_of_session {
                lent.renew_all();
                return Err(error);
            }
            // With extra time, the session may have kept its longer `statement_timeout`.
            if matches!(error, StoreError::Refused { .. }) && extra.is_zero() {
                lent.put_back();
            }
            Err(error)
        }
        Err(_) => Err(StoreError::Unknown { operation, reason: "no reply in time".into() }),
    }
}
