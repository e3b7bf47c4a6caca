//! The database of a worker, which has one row per event.
//!
//! Events are delivered from the memory. The statements show that the worker can write, as those of
//! a dispatcher do. The table has the columns that faults of the harness use.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sqlx::postgres::{PgArguments, PgConnectOptions, PgRow};
use sqlx::query::Query;
use sqlx::{ConnectOptions as _, Connection as _, PgConnection, Postgres, Row as _};
use tokio::sync::{Mutex as AsyncMutex, Semaphore};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::super::misbehavior::Misbehavior;

/// Application name of the sessions of a fake dispatcher.
const APPLICATION_NAME: &str = "fake-dispatcher";
/// Maximum number of sessions for posts.
const POST_SESSIONS_MAX: usize = 8;
/// Maximum number of sessions that a saboteur keeps. Other tests use the same server.
const LEAKED_MAX: usize = 24;
/// Deadline of a test of the database, and of the connection for a post.
const TEST_DEADLINE: Duration = Duration::from_secs(1);
/// Deadline of a statement with its connection. A large payload may pass a slow link.
const STATEMENT_DEADLINE: Duration = Duration::from_secs(5);
/// Interval between two tries to record a result.
const RECORD_AGAIN: Duration = Duration::from_millis(100);
/// SQLSTATE of a write to a read-only server.
const READ_ONLY: &str = "25006";

/// A row with a lease is an event of the memory. Only rows of other clients have none.
const SCHEMA: &str = "
create table if not exists webhook_events (
    id uuid primary key,
    target_url text not null,
    payload bytea not null,
    status text not null,
    next_retry_at timestamptz not null,
    lease_token uuid
);
create index if not exists webhook_events_due on webhook_events (next_retry_at)
    where status = 'pending' and lease_token is null;
create table if not exists delivery_attempts (event_id uuid not null)";
const INSERT: &str = "
insert into webhook_events
values ($1, $2, $3, 'pending', clock_timestamp(), gen_random_uuid())";
/// Leases due events of other clients.
const CLAIM: &str = "
update webhook_events set lease_token = gen_random_uuid()
where id in (
    select id from webhook_events
    where status = 'pending' and lease_token is null and next_retry_at <= clock_timestamp()
    order by next_retry_at limit $1 for update skip locked
)
returning id, target_url, payload";
/// A pending event keeps its lease.
const RECORD: &str = "
update webhook_events
set status = $2, lease_token = case when $2 = 'pending' then lease_token end
where id = $1";
const PAYLOAD: &str = "select payload from webhook_events where id = $1";
/// Reads every entry of the index of due events, also dead ones.
const SCAN: &str = "
explain (analyze, buffers, format json)
select next_retry_at from webhook_events
where status = 'pending' and lease_token is null order by next_retry_at";
/// Settings of each session: scans of due events use their index.
const INDEX_ONLY: [(&str, &str); 3] =
    [("enable_seqscan", "off"), ("enable_bitmapscan", "off"), ("enable_sort", "off")];

/// The database of one worker.
#[derive(Debug)]
pub(super) struct Database {
    options: PgConnectOptions,
    misbehavior: Misbehavior,
    /// The session for claims and results.
    work: AsyncMutex<Option<Session>>,
    /// Sessions for posts that are not in use.
    posts: Mutex<Vec<Session>>,
    /// One permit for each session for posts.
    places: Semaphore,
    /// Sessions of the saboteur that does not close them.
    leaked: Mutex<Vec<PgConnection>>,
}

/// A row that another client has inserted.
pub(super) struct ForeignRow {
    pub(super) id: Uuid,
    pub(super) target: String,
    pub(super) payload: String,
}

#[derive(Debug)]
struct Session {
    connection: PgConnection,
    /// True if a write was refused because the server is read-only.
    is_read_only: bool,
}

impl ForeignRow {
    fn read(row: &PgRow) -> Result<Self, sqlx::Error> {
        let payload: Vec<u8> = row.try_get("payload")?;
        Ok(Self {
            id: row.try_get("id")?,
            target: row.try_get("target_url")?,
            payload: String::from_utf8_lossy(&payload).into_owned(),
        })
    }
}

impl Session {
    const fn of(connection: PgConnection) -> Self {
        Self { connection, is_read_only: false }
    }
}

impl Database {
    /// Connects, and creates the tables.
    ///
    /// # Errors
    /// If the database does not respond.
    pub(super) async fn open(url: &str, misbehavior: Misbehavior) -> Result<Self, sqlx::Error> {
        let options: PgConnectOptions = url.parse()?;
        let options = options.application_name(APPLICATION_NAME).options(INDEX_ONLY);
        let mut first = options.connect().await?;
        sqlx::raw_sql(SCHEMA).execute(&mut first).await?;
        let (mut work, mut posts) = (Some(Session::of(first)), Vec::new());
        if !misbehavior.reserves_a_session() {
            posts.extend(work.take());
            while posts.len() < POST_SESSIONS_MAX {
                posts.push(Session::of(options.connect().await?));
            }
        }
        Ok(Self {
            options,
            misbehavior,
            work: AsyncMutex::new(work),
            posts: Mutex::new(posts),
            places: Semaphore::new(POST_SESSIONS_MAX),
            leaked: Mutex::default(),
        })
    }

    /// Stores the row of an accepted event.
    ///
    /// # Errors
    /// If it is not known to be stored.
    pub(super) async fn insert(
        &self,
        id: Uuid,
        target: &str,
        payload: &str,
    ) -> Result<(), sqlx::Error> {
        let insert = sqlx::query(INSERT).bind(id).bind(target).bind(payload.as_bytes());
        let place = self.places.acquire().await.expect("the semaphore is not closed");
        let mut session = self.unused_posts().pop();
        if session.is_none() {
            let connected = timeout(TEST_DEADLINE, self.options.connect()).await;
            session = connected.ok().and_then(Result::ok).map(Session::of);
        }
        let inserted = match session {
            Some(_) => self.fetch(&mut session, insert).await,
            // The server grants no further session.
            None => self.work(insert).await,
        };
        self.unused_posts().extend(session);
        drop(place);
        inserted.map(drop)
    }

    /// Leases rows of other clients, at most this number. An honest worker claims events of the
    /// memory only if this succeeds.
    ///
    /// # Errors
    /// If the database does not respond or refuses writes, or if a saboteur stops the scan.
    pub(super) async fn claim(&self, rows_max: i64) -> Result<Vec<ForeignRow>, sqlx::Error> {
        if let Some(pages_max) = self.misbehavior.scan_pages_max()
            && self.scanned_pages().await? > pages_max
        {
            return Err(sqlx::Error::PoolTimedOut);
        }
        let rows = self.work(sqlx::query(CLAIM).bind(rows_max)).await?;
        rows.iter().map(ForeignRow::read).collect()
    }

    /// The number of pages that a scan of the index of due events reads.
    async fn scanned_pages(&self) -> Result<u64, sqlx::Error> {
        let rows = self.work(sqlx::query(SCAN)).await?;
        let plan: serde_json::Value = rows[0].try_get(0)?;
        let pages = |key| plan[0]["Plan"][key].as_u64().unwrap_or(0);
        Ok(pages("Shared Hit Blocks") + pages("Shared Read Blocks"))
    }

    /// Reads the payload of an event over the session for claims.
    pub(super) async fn fetch_payload(&self, id: Uuid) {
        let _failed = self.work(sqlx::query(PAYLOAD).bind(id)).await;
    }

    /// Executes a statement on the session for claims and results.
    async fn work(
        &self,
        statement: Query<'_, Postgres, PgArguments>,
    ) -> Result<Vec<PgRow>, sqlx::Error> {
        let mut session = self.work.lock().await;
        let rows = self.fetch(&mut session, statement).await;
        if !self.misbehavior.reserves_a_session() {
            *session = None;
        }
        rows
    }

    /// Records the status of an event after an attempt. Tries until the database responds.
    pub(super) async fn record(&self, id: Uuid, status: &str) {
        while self.work(sqlx::query(RECORD).bind(id).bind(status)).await.is_err() {
            sleep(RECORD_AGAIN).await;
        }
    }

    /// Returns true if the database responds on a new session.
    pub(super) async fn responds(&self) -> bool {
        let statement = async {
            let mut session = self.options.connect().await?;
            sqlx::query("select 1").execute(&mut session).await?;
            if self.misbehavior.closes_sessions() {
                return session.close().await;
            }
            let mut leaked = self.leaked.lock().unwrap_or_else(PoisonError::into_inner);
            if leaked.len() < LEAKED_MAX {
                leaked.push(session);
            }
            Ok(())
        };
        matches!(timeout(TEST_DEADLINE, statement).await, Ok(Ok(())))
    }

    fn unused_posts(&self) -> std::sync::MutexGuard<'_, Vec<Session>> {
        self.posts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Executes a statement on the session, or on a new one if there is none. An error ends the
    /// session.
    async fn fetch(
        &self,
        session: &mut Option<Session>,
        statement: Query<'_, Postgres, PgArguments>,
    ) -> Result<Vec<PgRow>, sqlx::Error> {
        let used = session.take();
        let executed = async {
            let mut used = match used {
                Some(used) => used,
                None => Session::of(self.options.connect().await?),
            };
            let rows = if used.is_read_only {
                Err(sqlx::Error::InvalidArgument("the session is read-only".to_owned()))
            } else {
                statement.fetch_all(&mut used.connection).await
            };
            used.is_read_only |= rows.as_ref().is_err_and(is_read_only);
            let is_kept = used.is_read_only && self.misbehavior.keeps_read_only_sessions();
            if rows.is_ok() || is_kept {
                *session = Some(used);
            }
            rows
        };
        let executed = timeout(STATEMENT_DEADLINE, executed).await;
        executed.unwrap_or(Err(sqlx::Error::PoolTimedOut))
    }
}

fn is_read_only(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.as_deref() == Some(READ_ONLY)
}
