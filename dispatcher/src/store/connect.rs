//! Connections of the store: one pool for the API, one for the worker, one connection for
//! readiness.
//!
//! Presence and migration open dedicated sessions, because neither fits the statement timeouts of
//! the pools.

use std::sync::Arc;
use std::time::Duration;

use super::database_url::DatabaseUrl;
use super::parts::RefusedRows;
use super::places::Lane;
use super::pool::Pool;
use super::session::Session;
use super::sessions::Sessions;

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

/// Readiness has a dedicated connection, so that health checks succeed while requests use all other
/// connections.
const HEALTH_CONNECTIONS: u32 = 1;

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
    pub(super) refused: RefusedRows,
    pub(super) sessions: Arc<Sessions>,
    pub(super) presence: Session,
    pub(super) migration: Session,
}

impl PgStore {
    /// Opens the store without waiting for Postgres. Connections are opened when an operation needs
    /// one.
    pub fn open(options: &StoreOptions) -> Self {
        let session = |own: &[_]| Session::new(options.database.0.clone(), own);
        let accept = session(&[("statement_timeout", ACCEPT_STATEMENT), ("lock_timeout", "0")]);
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
        let sizes = [options.work_connections, options.accept_connections, HEALTH_CONNECTIONS];
        let sizes = sizes.map(|size| size as usize);
        let sessions = Arc::new(Sessions::new(sizes, [work, accept.clone(), accept]));
        let pool = |lane, timeout| Pool::new(Arc::clone(&sessions), lane, timeout);
        Self {
            health: pool(Lane::Health, ACCEPT_TIMEOUT),
            accept: pool(Lane::Accept, ACCEPT_TIMEOUT),
            work: pool(Lane::Work, WORK_TIMEOUT),
            refused: RefusedRows::default(),
            sessions,
            presence,
            migration,
        }
    }

    /// Closes every connection of the pools.
    pub async fn close(&self) {
        self.sessions.close().await;
    }
}
