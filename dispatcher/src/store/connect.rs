//! Connections of the store: one pool for the API, one for the worker, one connection for health
//! and gauges.
//!
//! Presence and migration open dedicated sessions, because neither fits the statement timeouts of
//! the pools.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgPoolOptions;
use sqlx::{Connection, PgConnection, PgPool};
use tokio::time::timeout;

use super::database_url::DatabaseUrl;
use super::keyed::KeyedPosts;
use super::parts::RefusedRows;
use super::pool::Pool;
use super::session::{CONNECT_TIMEOUT, Renewal, Session, is_outdated};

/// Timeout of an operation of the API, so that a 503 is sent within two seconds.
const ACCEPT_TIMEOUT: Duration = Duration::from_millis(1_500);

/// Timeout of a statement of the worker. After it, the connection is closed and the worker tries
/// again.
const WORK_TIMEOUT: Duration = Duration::from_secs(5);

/// `statement_timeout` of the server, below the timeout on this side: a statement must not run on
/// after its caller has given up. The server counts from the arrival of the statement, so one that
/// waited long for its connection may still outlive its caller.
const ACCEPT_STATEMENT: &str = "1400ms";
const WORK_STATEMENT: &str = "4500ms";

/// Health and gauges have a dedicated connection, so that health checks succeed while requests use
/// all other connections.
const HEALTH_CONNECTIONS: u32 = 1;

/// A connection that was idle for longer is pinged before an operation uses it.
const TRUSTED_IDLE: Duration = Duration::from_millis(500);

/// A session at a server that vanished must not use up the time of the operation.
const PING_TIMEOUT: Duration = Duration::from_secs(1);

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
    pub(super) refused: RefusedRows,
    pub(super) presence: Session,
    pub(super) migration: Session,
    pub(super) renewal: Renewal,
}

impl PgStore {
    /// Opens the store without waiting for Postgres. Connections are opened when an operation needs
    /// one.
    pub fn open(options: &StoreOptions) -> Self {
        let session = |own: &[_]| Session::new(options.database.0.clone(), own);
        let accept = session(&[
            ("statement_timeout", ACCEPT_STATEMENT),
            ("lock_timeout", "0"),
        ]);
        let presence = session(&[("statement_timeout", WORK_STATEMENT), ("lock_timeout", "0")]);
        let work = session(&[
            ("statement_timeout", WORK_STATEMENT),
            ("lock_timeout", "0"),
            // Index scans only, so that plans do not depend on statistics.
            ("enable_seqscan", "off"),
            ("enable_bitmapscan", "off"),
            // A deep backlog makes cost estimates large. JIT compilation would then take longer
            // than the statement.
            ("jit", "off"),
        ]);
        // Waiting DDL blocks every statement on its table.
        let migration = session(&[("statement_timeout", "0"), ("lock_timeout", "2s")]);
        let renewal = Renewal::default();
        let pool = |session: &Session, connections, timeout| {
            let connections = connect_lazy(session, &renewal, connections);
            Pool::new(connections, timeout, renewal.clone())
        };
        let store = Self {
            health: pool(&accept, HEALTH_CONNECTIONS, ACCEPT_TIMEOUT),
            accept: pool(&accept, options.accept_connections, ACCEPT_TIMEOUT),
            work: pool(&work, options.work_connections, WORK_TIMEOUT),
            keyed: Arc::new(KeyedPosts::new(options.accept_connections)),
            refused: RefusedRows::default(),
            presence,
            migration,
            renewal: renewal.clone(),
        };
        let pools = [&store.health, &store.accept, &store.work];
        renewal.set_pools(pools.map(Pool::connections).to_vec());
        store
    }

    /// Closes every connection of the pools.
    pub async fn close(&self) {
        self.accept.close().await;
        self.work.close().await;
        self.health.close().await;
    }
}

fn connect_lazy(session: &Session, renewal: &Renewal, connections: u32) -> PgPool {
    let (checked, acquired, released) = (session.clone(), renewal.requests(), renewal.requests());
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(CONNECT_TIMEOUT)
        .test_before_acquire(false)
        .after_connect(move |connection, _| {
            let session = checked.clone();
            Box::pin(async move { session.check(connection).await })
        })
        .before_acquire(move |connection, meta| {
            let is_outdated = is_outdated(&acquired, meta.age);
            Box::pin(async move {
                // `Ok(false)` replaces the connection without an error. If the server is down, the
                // new connection fails.
                let is_trusted = meta.idle_for <= TRUSTED_IDLE;
                Ok(!is_outdated && (is_trusted || is_alive(connection).await))
            })
        })
        .after_release(move |_, meta| {
            let is_outdated = is_outdated(&released, meta.age);
            Box::pin(async move { Ok(!is_outdated) })
        })
        .connect_lazy_with(session.options())
}

async fn is_alive(connection: &mut PgConnection) -> bool {
    timeout(PING_TIMEOUT, connection.ping())
        .await
        .is_ok_and(|reply| reply.is_ok())
}
