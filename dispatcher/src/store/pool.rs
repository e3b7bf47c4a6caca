//! Runs one database operation under one deadline on a pooled connection.
//!
//! The deadline covers the wait for a connection and the statements. A connection whose operation
//! timed out or was dropped may still receive a reply. So it is closed and never returned to the
//! pool.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::{PgConnection, PgPool, Postgres};
use tokio::time::error::Elapsed;
use tokio::time::{Instant, sleep, timeout_at};

use super::error::{StoreError, is_of_session, is_rolled_back};
use super::session::Renewal;

/// Pauses between repetitions of statements that Postgres rolled back. The first repetition has
/// none.
const REPEAT_PAUSE_MIN: Duration = Duration::from_millis(1);
const REPEAT_PAUSE_MAX: Duration = Duration::from_millis(50);

/// Connections to one database with one timeout per operation.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    connections: PgPool,
    timeout: Duration,
    renewal: Renewal,
    /// True while `connect_patiently` waits for a connection.
    connecting: Arc<AtomicBool>,
}

/// A connection of the pool and the operation that uses it. Dropping it before `finish` closes the
/// connection.
struct PooledConnection {
    connection: Option<PoolConnection<Postgres>>,
    operation: &'static str,
    deadline: Instant,
    renewal: Renewal,
}

impl Pool {
    pub(super) fn new(connections: PgPool, timeout: Duration, renewal: Renewal) -> Self {
        Self {
            connections,
            timeout,
            renewal,
            connecting: Arc::default(),
        }
    }

    pub(super) fn connections(&self) -> PgPool {
        self.connections.clone()
    }

    /// Runs `statements` on a connection, and again if Postgres rolls them back for the sake of
    /// other transactions. `operation` names them in errors.
    pub(super) async fn run<T>(
        &self,
        operation: &'static str,
        statements: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error> + Clone,
    ) -> Result<T, StoreError> {
        let no_turn = std::future::ready(());
        self.run_after(no_turn, operation, statements).await
    }

    /// Waits for `turn`, then for a connection, and runs `statements`, all under one deadline. The
    /// value of `turn` is kept until the operation has ended.
    pub(super) async fn run_after<T, G>(
        &self,
        turn: impl Future<Output = G>,
        operation: &'static str,
        statements: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error> + Clone,
    ) -> Result<T, StoreError> {
        let (_turn, mut pooled) = self.acquire_after(turn, operation).await?;
        let deadline = pooled.deadline;
        let mut pause = Duration::ZERO;
        let result = loop {
            let result = timeout_at(deadline, statements.clone()(pooled.connection())).await;
            let is_rolled_back = matches!(&result, Ok(Err(error)) if is_rolled_back(error));
            if !is_rolled_back || Instant::now() + pause >= deadline {
                break result;
            }
            sleep(pause).await;
            pause = (pause * 2).clamp(REPEAT_PAUSE_MIN, REPEAT_PAUSE_MAX);
        };
        pooled.finish(result)
    }

    pub(super) async fn close(&self) {
        self.connections.close().await;
    }

    async fn acquire_after<G>(
        &self,
        turn: impl Future<Output = G>,
        operation: &'static str,
    ) -> Result<(G, PooledConnection), StoreError> {
        let deadline = Instant::now() + self.timeout;
        let acquiring = async {
            let turn = turn.await;
            (turn, self.connections.acquire().await)
        };
        let reason = match timeout_at(deadline, acquiring).await {
            Ok((turn, Ok(connection))) => {
                let pooled = PooledConnection {
                    connection: Some(connection),
                    operation,
                    deadline,
                    renewal: self.renewal.clone(),
                };
                return Ok((turn, pooled));
            }
            Ok((_, Err(error))) => error.to_string(),
            Err(_) => {
                self.connect_patiently();
                format!("no connection within {} s", self.timeout.as_secs_f64())
            }
        };
        Err(StoreError::Unavailable { operation, reason })
    }

    /// Opens a connection in the background. Connecting may take longer than the timeout of an
    /// operation. If each operation started a new attempt and dropped it at its deadline, no
    /// attempt would succeed.
    fn connect_patiently(&self) {
        if self.connecting.swap(true, Ordering::Relaxed) {
            return;
        }
        let (connections, connecting) = (self.connections.clone(), Arc::clone(&self.connecting));
        tokio::spawn(async move {
            // The pool keeps the connection for the next operation. An error is reported to the
            // operations that wait.
            let _connection = connections.acquire().await;
            connecting.store(false, Ordering::Relaxed);
        });
    }
}

impl PooledConnection {
    fn connection(&mut self) -> &mut PgConnection {
        self.connection
            .as_mut()
            .expect("the connection is present until finish")
    }

    /// Returns the connection to the pool if its state is known. Classifies the error if there is
    /// one.
    fn finish<T>(
        mut self,
        result: Result<Result<T, sqlx::Error>, Elapsed>,
    ) -> Result<T, StoreError> {
        match result {
            Ok(Ok(value)) => {
                self.connection.take();
                Ok(value)
            }
            Ok(Err(error)) => {
                let is_of_session = is_of_session(&error);
                let error = StoreError::while_running(self.operation, error);
                if is_of_session {
                    self.renewal.request();
                } else if matches!(error, StoreError::Refused { .. }) {
                    self.connection.take();
                }
                Err(error)
            }
            Err(_) => Err(StoreError::Unknown {
                operation: self.operation,
                reason: "no reply in time".into(),
            }),
        }
    }
}

impl Drop for PooledConnection {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            drop(connection.detach());
        }
    }
}
