//! How the store connects: one pool for requests, one for the worker, one connection for health, one for presence.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, PgPool};
use tokio::sync::watch;

use super::keyed::KeyedPosts;
use super::lend::Lender;
use crate::event::WorkerId;

/// A request waits this long for the database at most, so that its 503 is there within two seconds.
const ACCEPT_TIMEOUT: Duration = Duration::from_millis(1_500);

/// The worker waits this long for one statement; then the connection is closed and the statement tried again.
const WORK_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection that takes longer to come about than its operation can wait is still made, within this time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The server's own limits for a statement, below our patience: what was given up here must not go on there. It counts from
/// when the statement arrives, so one that waited long for its connection may still outlive its caller.
const ACCEPT_STATEMENT_MS_MAX: u64 = 1_400;
const WORK_STATEMENT_MS_MAX: u64 = 4_500;

const _: () = assert!((ACCEPT_STATEMENT_MS_MAX as u128) < ACCEPT_TIMEOUT.as_millis());
const _: () = assert!((WORK_STATEMENT_MS_MAX as u128) < WORK_TIMEOUT.as_millis());

/// Health and gauges have a connection of their own: where requests keep all of theirs busy, the database is there all the same.
const HEALTH_CONNECTIONS: u32 = 1;

/// A connection that was idle for longer is asked whether it still lives before a request depends on it.
const TRUSTED_IDLE: Duration = Duration::from_millis(500);

/// `DATABASE_URL`, parsed.
#[derive(Clone)]
pub struct DatabaseUrl(PgConnectOptions);

/// What a store is opened with.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Where Postgres is.
    pub database: DatabaseUrl,
    /// `ACCEPT_CONNECTIONS`.
    pub accept_connections: u32,
    /// `WORK_CONNECTIONS`.
    pub work_connections: u32,
    /// `PRESENCE`: without it, a claim waits for nobody's lock.
    pub presence: bool,
}

/// The store over Postgres.
#[derive(Clone, Debug)]
pub struct PgStore {
    pub(super) accept: Lender,
    pub(super) work: Lender,
    pub(super) health: Lender,
    pub(super) keyed: Arc<KeyedPosts>,
    pub(super) presence_options: PgConnectOptions,
    pub(super) presence: Arc<watch::Sender<bool>>,
}

impl DatabaseUrl {
    /// Reads a `postgres://` URL.
    ///
    /// # Errors
    /// What is wrong with it and what to write instead; never the password.
    pub fn parse(text: &str) -> Result<Self, String> {
        let form = "postgresql://user:password@host:5432/database";
        let url =
            url::Url::parse(text).map_err(|e| format!("is no URL ({e}); write one like {form}"))?;
        if !matches!(url.scheme(), "postgres" | "postgresql") {
            return Err(format!(
                "begins with {}:; write one like {form}",
                url.scheme()
            ));
        }
        let options = PgConnectOptions::from_str(text);
        options
            .map(Self)
            .map_err(|e| format!("cannot be used ({e}); write one like {form}"))
    }
}

/// Shows where, never with which password.
impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (host, port) = (self.0.get_host(), self.0.get_port());
        write!(
            f,
            "{host}:{port}/{}",
            self.0.get_database().unwrap_or("(default)")
        )
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl PgStore {
    /// Opens the store without waiting for Postgres: connections are made when they are needed.
    pub fn open(options: &StoreOptions) -> Self {
        let base = options
            .database
            .0
            .clone()
            .application_name("webhook-dispatcher")
            // Trouble is logged once by who meets it, not once a statement.
            .disable_statement_logging()
            .options([
                // The 202 is a promise: it holds whatever the server's own default is.
                ("synchronous_commit", "on"),
                // A client that is cut off without a word is found out before its locks matter.
                ("tcp_keepalives_idle", "10"),
                ("tcp_keepalives_interval", "5"),
                ("tcp_keepalives_count", "3"),
            ]);
        let limit = |ms: u64| ("statement_timeout", ms.to_string());
        let accept = base.clone().options([limit(ACCEPT_STATEMENT_MS_MAX)]);
        // One plan shape whatever the statistics say: every statement of the worker goes by an index.
        let work = base.clone().options([limit(WORK_STATEMENT_MS_MAX)]);
        let work = work.options([
            ("enable_seqscan", "off"),
            ("enable_bitmapscan", "off"),
            // A deep backlog makes estimates large, and compiling a plan takes longer than any of them runs.
            ("jit", "off"),
        ]);
        let lender =
            |options, connections, timeout| Lender::new(pool(options, connections), timeout);
        Self {
            health: lender(accept.clone(), HEALTH_CONNECTIONS, ACCEPT_TIMEOUT),
            accept: lender(accept, options.accept_connections, ACCEPT_TIMEOUT),
            work: lender(work, options.work_connections, WORK_TIMEOUT),
            keyed: Arc::new(KeyedPosts::new(options.accept_connections)),
            presence_options: base,
            presence: Arc::new(watch::Sender::new(!options.presence)),
        }
    }

    /// Waits until the presence lock is held, or is not.
    pub(super) async fn presence_becomes(&self, wanted: bool) {
        let mut held = self.presence.subscribe();
        held.wait_for(|held| *held == wanted)
            .await
            .expect("the store itself keeps the sender");
    }

    /// Whether the presence lock is held just now.
    pub fn is_present(&self) -> bool {
        *self.presence.borrow()
    }

    /// Closes every connection.
    pub async fn close(&self) {
        self.accept.pool.close().await;
        self.work.pool.close().await;
        self.health.pool.close().await;
    }
}

fn pool(options: PgConnectOptions, connections: u32) -> PgPool {
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(CONNECT_TIMEOUT)
        .test_before_acquire(false)
        .before_acquire(|connection, meta| {
            Box::pin(async move {
                // One that died while it was idle is replaced without a word: an outage is told by who meets it.
                Ok(meta.idle_for <= TRUSTED_IDLE || connection.ping().await.is_ok())
            })
        })
        .connect_lazy_with(options)
}

impl WorkerId {
    /// A number that no other process has: a pid would repeat in a restarted container.
    pub fn fresh(rng: &mut impl rand::Rng) -> Self {
        use rand::RngExt;
        Self(rng.random_range(1..=i64::MAX))
    }
}
