//! Lends database connections for one operation under one deadline, and never takes a doubtful one back.
//!
//! A connection whose statement did not end, whether by timeout or because its future was dropped, has an answer under way
//! that belongs to nobody: it is closed instead of going back to the pool.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::{PgConnection, PgPool, Postgres};
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout_at};

use super::error::StoreError;

/// A pool with the time that one operation may take, waiting for a connection included.
#[derive(Clone, Debug)]
pub(super) struct Lender {
    pub(super) pool: PgPool,
    pub(super) timeout: Duration,
    /// A connection is being made that no operation waits for.
    connecting: Arc<AtomicBool>,
}

/// A connection on loan.
pub(super) struct Lent {
    connection: Option<PoolConnection<Postgres>>,
    operation: &'static str,
    /// When the operation must have ended.
    pub(super) deadline: Instant,
}

impl Lender {
    pub(super) fn new(pool: PgPool, timeout: Duration) -> Self {
        Self {
            pool,
            timeout,
            connecting: Arc::default(),
        }
    }

    pub(super) async fn lend(&self, operation: &'static str) -> Result<Lent, StoreError> {
        self.lend_after(operation, std::future::ready(()))
            .await
            .map(|((), lent)| lent)
    }

    /// Waits for something that must come before a connection is worth asking for, all under the one deadline.
    pub(super) async fn lend_after<T>(
        &self,
        operation: &'static str,
        first: impl Future<Output = T>,
    ) -> Result<(T, Lent), StoreError> {
        let deadline = Instant::now() + self.timeout;
        let both = async {
            let first = first.await;
            (first, self.pool.acquire().await)
        };
        let reason = match timeout_at(deadline, both).await {
            Ok((first, Ok(connection))) => {
                return Ok((
                    first,
                    Lent {
                        connection: Some(connection),
                        operation,
                        deadline,
                    },
                ));
            }
            Ok((_, Err(error))) => error.to_string(),
            Err(_) => {
                self.connect_patiently();
                format!("no connection within {} s", self.timeout.as_secs_f64())
            }
        };
        Err(StoreError::Unavailable { operation, reason })
    }

    /// Making a connection may take longer than an operation waits: begun anew by each, none would ever come about.
    fn connect_patiently(&self) {
        if self.connecting.swap(true, Ordering::Relaxed) {
            return;
        }
        let (pool, connecting) = (self.pool.clone(), Arc::clone(&self.connecting));
        tokio::spawn(async move {
            // The pool keeps it for whoever comes next; whoever asks meanwhile learns by itself why there is none.
            let _made = pool.acquire().await;
            connecting.store(false, Ordering::Relaxed);
        });
    }
}

impl Lent {
    pub(super) fn connection(&mut self) -> &mut PgConnection {
        self.connection
            .as_mut()
            .expect("a connection stays until the operation is concluded")
    }

    /// Gives the connection back if its state is known, and sorts the error if there is one.
    pub(super) fn conclude<T>(
        mut self,
        done: Result<Result<T, sqlx::Error>, Elapsed>,
    ) -> Result<T, StoreError> {
        match done {
            Ok(Ok(value)) => {
                self.connection.take();
                Ok(value)
            }
            Ok(Err(error)) => {
                let error = StoreError::while_running(self.operation, error);
                if matches!(error, StoreError::Refused { .. }) {
                    self.connection.take();
                }
                Err(error)
            }
            Err(_) => Err(StoreError::Unknown {
                operation: self.operation,
                reason: "no answer in time".into(),
            }),
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(doubtful) = self.connection.take() {
            drop(doubtful.detach());
        }
    }
}
