//! Connections of the store: one pool for the API, one for the worker, one connection for health
//! and gauges.
//!
//! Presence and migration open dedicated sessions, because neither fits the statement timeouts of
//! the pools.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, PgPool};

use super::database_url::DatabaseUrl;
use super::keyed::KeyedPosts;
use super::pool::Pool;

/// Timeout of an operation of the API, so that a 503 is sent within two seconds.
const ACCEPT_TIMEOUT: Duration = Duration::from_millis(1_500);

/// Timeout of a statement of the worker. After it, the connection is closed and the worker tries
/// again.
const WORK_TIMEOUT: Duration = Duration::from_secs(5);

/// Timeout of opening a connection. It may exceed the timeout of the operation that needs it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// `statement_timeout` of the server, below the timeout on this side: a statement must not run on
/// after its caller has given up. The server counts from the arrival of the statement, so one that
/// waited long for its connection may still outlive its caller.
const ACCEPT_STATEMENT_MS_MAX: u64 = 1_400;
const WORK_STATEMENT_MS_MAX: u64 = 4_500;

const _: () = assert!((ACCEPT_STATEMENT_MS_MAX as u128) < ACCEPT_TIMEOUT.as_millis());
const _: () = assert!((WORK_STATEMENT_MS_MAX as u128) < WORK_TIMEOUT.as_millis());

/// Health and gauges have a dedicated connection, so that health checks succeed while requests use
/// all other connections.
const HEALTH_CONNECTIONS: u32 = 1;

/// A connection that was idle for longer is pinged before an operation uses it.
const TRUSTED_IDLE: Duration = Duration::from_millis(500);

/// The settings of a store.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// `DATABASE_URL`.
    pub database: DatabaseUrl,
    /// `ACCEPT_CONNECTIONS`.
    pub accept_connections: u32,
    /// `WORK_CONNECTIONS`.
    pub work_connections: u32,
}

/// The store on Postgres.
#[derive(Clone, Debug)]
pub struct PgStore {
    pub(super) accept: Pool,
    pub(super) work: Pool,
    pub(super) health: Pool,
    pub(super) keyed: Arc<KeyedPosts>,
    /// Options of dedicated sessions, without a `statement_timeout`.
    pub(super) session: PgConnectOptions,
}

impl PgStore {
    /// Opens the store without waiting for Postgres. Connections are opened when an operation needs
    /// one.
    pub fn open(options: &StoreOptions) -> Self {
        let session = options
            .database
            .0
            .clone()
            // The caller logs a failed statement once.
            .disable_statement_logging()
            .options([
                // The 202 depends on it, so the default of the server does not apply.
                ("synchronous_commit", "on"),
                // The server must end the session of a vanished client before its locks block
                // others for long.
                ("tcp_keepalives_idle", "10"),
                ("tcp_keepalives_interval", "5"),
                ("tcp_keepalives_count", "3"),
            ]);
        let limit = |ms: u64| ("statement_timeout", ms.to_string());
        let accept = session.clone().options([limit(ACCEPT_STATEMENT_MS_MAX)]);
        // Index scans only, so that plans do not depend on statistics.
        let work = session.clone().options([limit(WORK_STATEMENT_MS_MAX)]);
        let work = work.options([
            ("enable_seqscan", "off"),
            ("enable_bitmapscan", "off"),
            // A deep backlog makes cost estimates large. JIT compilation would then take longer
            // than the statement.
            ("jit", "off"),
        ]);
        let pool =
            |options, connections, timeout| Pool::new(connect_lazy(options, connections), timeout);
        Self {
            health: pool(accept.clone(), HEALTH_CONNECTIONS, ACCEPT_TIMEOUT),
            accept: pool(accept, options.accept_connections, ACCEPT_TIMEOUT),
            work: pool(work, options.work_connections, WORK_TIMEOUT),
            keyed: Arc::new(KeyedPosts::new(options.accept_connections)),
            session,
        }
    }

    /// Closes every connection of the pools.
    pub async fn close(&self) {
        self.accept.close().await;
        self.work.close().await;
        self.health.close().await;
    }
}

fn connect_lazy(options: PgConnectOptions, connections: u32) -> PgPool {
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(CONNECT_TIMEOUT)
        .test_before_acquire(false)
        .before_acquire(|connection, meta| {
            Box::pin(async move {
                // `Ok(false)` replaces the connection without an error. If the server is down, the
                // new connection fails.
                Ok(meta.idle_for <= TRUSTED_IDLE || connection.ping().await.is_ok())
            })
        })
        .connect_lazy_with(options)
}
