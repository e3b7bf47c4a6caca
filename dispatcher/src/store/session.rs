//! Server sessions: the settings that each session starts with, the check that they apply, and the
//! renewal of all sessions after an error of one.
//!
//! A role, a database or a server may have other defaults, and a pooler may drop startup
//! parameters. With some defaults, a 202 would not be durable or every claim would fail.

use std::io::{Error, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, FromRow, PgConnection, PgExecutor};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

/// Timeout of opening a session. It may exceed the timeout of the operation that needs the session.
/// After a failover, a try to reach the old server must end soon.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Minimum time between two renewals. While every server is read-only, each write fails, and each
/// failure requests one.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(1);

/// Settings of every session. Values have the form in which `current_setting` returns them.
const SETTINGS: [(&str, &str); 6] = [
    // The statements are written for this level. At a higher one, concurrent claims fail.
    ("default_transaction_isolation", "read committed"),
    ("default_transaction_read_only", "off"),
    ("default_transaction_deferrable", "off"),
    // Every 202 depends on it.
    ("synchronous_commit", "on"),
    ("idle_in_transaction_session_timeout", "10s"),
    // A policy that hides rows becomes an error.
    ("row_security", "off"),
];

/// The server must end the session of a vanished client before its locks block others for long. Not
/// checked, because a session over a Unix socket has no such settings.
const KEEPALIVES: [(&str, &str); 3] = [
    ("tcp_keepalives_idle", "10"),
    ("tcp_keepalives_interval", "5"),
    ("tcp_keepalives_count", "3"),
];

/// Values that are checked and not passed at the start. The driver passes `client_encoding`. Some
/// servers do not know the timeouts and would refuse to start a session with them. So the check
/// sets them if they exist.
const CHECKED_ONLY: [(&str, &str); 4] = [
    ("client_encoding", "UTF8"),
    ("server_encoding", "UTF8"),
    ("idle_session_timeout", "0"),
    ("transaction_timeout", "0"),
];

/// Options of a server session and the check of its settings.
#[derive(Clone, Debug)]
pub(super) struct Session {
    options: Arc<PgConnectOptions>,
    /// Statement that returns the settings with another value than the expected one.
    check: Arc<str>,
}

/// Reason why a session was refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    #[error("the database has the encoding {0} and not UTF8: create a database with encoding UTF8")]
    Encoding(String),
    #[error("{0}: the server or a pooler ignored startup options, connect without that pooler")]
    Ignored(String),
}

impl Session {
    /// Adds the common settings and `own` to `options`, which may set others for the same names.
    pub(super) fn new(options: PgConnectOptions, own: &[(&str, &str)]) -> Self {
        let passed = SETTINGS.iter().chain(own);
        let values: Vec<String> = (passed.clone().chain(&CHECKED_ONLY))
            .map(|(name, value)| format!("('{name}', '{value}')"))
            .collect();
        let check = format!(
            "select name, value, actual from (
                select name, value, case
                    when name in ('idle_session_timeout', 'transaction_timeout')
                        and current_setting(name, true) is not null
                    then set_config(name, value, false)
                    else current_setting(name, true) end as actual
                from (values {}) expected (name, value)
            ) applied where actual <> value",
            values.join(", ")
        );
        Self {
            options: Arc::new(
                options
                    .options(passed.copied())
                    .options(KEEPALIVES)
                    // The caller logs a failed statement once.
                    .disable_statement_logging(),
            ),
            check: check.into(),
        }
    }

    pub(super) fn options(&self) -> PgConnectOptions {
        PgConnectOptions::clone(&self.options)
    }

    /// Opens a session and checks its settings.
    pub(super) async fn open(&self) -> Result<PgConnection, sqlx::Error> {
        let opening = async {
            let mut connection = self.options.connect().await?;
            self.check(&mut connection).await?;
            Ok(connection)
        };
        timeout(CONNECT_TIMEOUT, opening).await.unwrap_or_else(|_| Err(no_reply()))
    }

    /// Returns an error that names the settings with other values than those of this session.
    pub(super) async fn check(&self, session: impl PgExecutor<'_>) -> Result<(), sqlx::Error> {
        let sql = AssertSqlSafe(self.check.to_string());
        let refused = |error: SessionError| sqlx::Error::Configuration(error.into());
        let mut wrong = Vec::new();
        for row in sqlx::raw_sql(sql).fetch_all(session).await? {
            let (name, expected, actual): (&str, &str, &str) = FromRow::from_row(&row)?;
            if name == "server_encoding" {
                return Err(refused(SessionError::Encoding(actual.to_owned())));
            }
            wrong.push(format!("{name} is {actual:?} and not {expected:?}"));
        }
        let ignored = || refused(SessionError::Ignored(wrong.join(", ")));
        if wrong.is_empty() { Ok(()) } else { Err(ignored()) }
    }
}

/// Error of a call without a reply within [`CONNECT_TIMEOUT`].
pub(super) fn no_reply() -> sqlx::Error {
    let text = format!("no reply within {} s", CONNECT_TIMEOUT.as_secs());
    sqlx::Error::Io(Error::new(ErrorKind::TimedOut, text))
}

/// Returns true if the server does not apply the settings or has another encoding. A retry does not
/// help.
pub(super) fn is_refused(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Configuration(reason) if reason.is::<SessionError>())
}

/// Ends the sessions of all pools and the presence after an error that other sessions probably
/// share. After a failover, for example, all of them may be connected to a read-only server.
#[derive(Clone, Debug, Default)]
pub(super) struct Renewal(Arc<watch::Sender<Option<Instant>>>);

impl Renewal {
    /// Outdates every session that was opened before now. Returns false if the last request was
    /// only just made.
    pub(super) fn request(&self) -> bool {
        self.0.send_if_modified(|last| {
            let is_due = last.is_none_or(|at| at.elapsed() >= RENEWAL_INTERVAL);
            if is_due {
                *last = Some(Instant::now());
            }
            is_due
        })
    }

    /// Returns true if a session that was opened at this time must be closed.
    pub(super) fn is_outdated(&self, opened: Instant) -> bool {
        self.0.borrow().is_some_and(|at| at > opened)
    }

    /// Waits for a request after `opened`, the time at which a session was opened.
    pub(super) async fn requested_after(&self, opened: Instant) {
        let mut requests = self.0.subscribe();
        let requested = requests.wait_for(|last| last.is_some_and(|at| at > opened)).await;
        requested.expect("self owns the sender");
    }
}
