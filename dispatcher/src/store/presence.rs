//! Presence: a session advisory lock that shows other workers that this worker runs.
//!
//! Order: lock, row in `workers`, first claim. So a row without a lock means that its worker has
//! exited or has lost its session. The session may end without an error on this side (half-open
//! connection). The sweep of the worker then misses its own lock or row and renews the presence. A
//! pooler in transaction mode cannot keep a session lock; with `PRESENCE=false` the leases of this
//! worker end only by expiry.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgListener, PgPoolOptions};
use sqlx::{Connection, PgConnection};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::connect::PgStore;
use super::error::StoreError;
use super::pool::Pool;
use super::session::{CONNECT_TIMEOUT, Renewal, Session, no_reply};
use crate::event::WorkerId;
use crate::worker_health::WorkerHealth;

/// Pause before the next try to take the lock.
const RETRY_AFTER: Duration = Duration::from_millis(50);

/// Timeout of one try: connect, lock, register. After a failover, a try at the old server must end
/// soon.
const TAKE_TIMEOUT: Duration = CONNECT_TIMEOUT;

const LOCK: &str = "select pg_try_advisory_lock($1)";

const REGISTER: &str = "
insert into workers (holder, server_started_at, registered_at)
values ($1, pg_postmaster_start_time(), now())
on conflict (holder) do update set server_started_at = excluded.server_started_at";

const ABSENT: &str = "
select w.holder from workers w
where w.server_started_at = pg_postmaster_start_time()
    and not exists (
        select from pg_locks l
        where l.locktype = 'advisory' and l.objsubid = 1 and l.granted
            and l.database = (select oid from pg_database where datname = current_database())
            and l.classid = (w.holder >> 32)::oid and l.objid = (w.holder & 4294967295)::oid
    )
union
select $1 where not exists (
    select from workers where holder = $1 and server_started_at = pg_postmaster_start_time()
)
order by holder";

const FORGET: &str = "delete from workers where holder = $1";

/// The presence of this worker, as the worker uses it. Postgres and the simulation implement it.
pub trait Presence: Clone + Send + Sync + 'static {
    /// Waits until the presence is held. Nothing may be claimed before: no other worker could see
    /// that this one runs.
    fn held(&self) -> impl Future<Output = ()> + Send;

    /// Returns true while the presence is held.
    fn is_held(&self) -> bool;

    /// Ends the presence if it is held and takes it again. No event is claimed in between.
    fn renew(&self);
}

/// The presence of one worker in Postgres.
#[derive(Clone, Debug)]
pub struct PgPresence {
    worker: WorkerId,
    enabled: bool,
    session: Session,
    renewal: Renewal,
    pool: Pool,
    held: Arc<watch::Sender<bool>>,
    health: Arc<WorkerHealth>,
}

impl PgPresence {
    /// If `enabled` is false, the presence counts as held and [`Self::hold`] must not run.
    pub fn new(
        store: &PgStore,
        worker: WorkerId,
        enabled: bool,
        health: Arc<WorkerHealth>,
    ) -> Self {
        Self {
            worker,
            enabled,
            session: store.presence.clone(),
            renewal: store.sessions.renewal.clone(),
            pool: store.work.clone(),
            held: Arc::new(watch::Sender::new(!enabled)),
            health,
        }
    }

    /// Holds the lock until `stop`, then deletes the row. If the session ends earlier, the lock is
    /// taken again.
    pub async fn hold(&self, stop: CancellationToken) {
        stop.run_until_cancelled(self.hold_sessions()).await;
        self.held.send_replace(false);
        let worker = self.worker;
        // If this fails, other workers delete the row after the lease time.
        let _ =
            self.pool.run("unregistering the worker", async |db| forget(db, worker).await).await;
    }

    async fn hold_sessions(&self) {
        let mut is_logged = false;
        self.health.presence(false, Instant::now());
        loop {
            let ended = self.hold_session().await;
            let was_held = self.held.send_replace(false) || ended.is_ok();
            self.health.presence(false, Instant::now());
            let absent = || lost("the lock or the row is absent from the server");
            let error = ended.err().unwrap_or_else(absent);
            if StoreError::is_connection_limit(&error) {
                // Requests may have taken the place of the lost session in the server.
                self.pool.make_room_for_presence();
            }
            if was_held || !is_logged {
                tracing::warn!(worker.id = %self.worker, %error,
                    "presence not held, no event is claimed until it is");
                is_logged = true;
            }
            sleep(RETRY_AFTER).await;
        }
    }

    /// Takes the lock, registers the worker and waits for the end of the session. Returns its
    /// error, or `Ok` after `renew`.
    async fn hold_session(&self) -> sqlx::Result<()> {
        let opened = Instant::now();
        let listener = self.take().await?;
        self.held.send_replace(true);
        self.health.presence(true, Instant::now());
        tracing::info!(worker.id = %self.worker, "presence held");
        tokio::select! {
            biased;
            ended = end_of(listener) => Err(ended),
            () = self.renewal.requested_after(opened) => Err(lost("all sessions are opened again")),
            () = self.becomes(false) => Ok(()),
        }
    }

    /// Takes the presence, checks that other sessions see it, and ends it.
    ///
    /// # Errors
    /// The session, the lock or the row is refused, or the lock is not exclusive.
    pub async fn probe(&self) -> Result<(), StoreError> {
        const OPERATION: &str = "taking the presence";
        let taken = self.take().await;
        let listener = taken.map_err(|error| StoreError::while_running(OPERATION, error))?;
        let worker = self.worker;
        let probed = self.pool.run(OPERATION, async |db| {
            let is_shared: bool =
                sqlx::query_scalar(LOCK).bind(worker.0).fetch_one(&mut *db).await?;
            let is_absent = absent_workers(db, worker).await?.contains(&worker);
            forget(db, worker).await?;
            Ok((is_shared, is_absent))
        });
        let (is_shared, is_absent) = probed.await?;
        drop(listener);
        match is_shared || is_absent {
            true => Err(StoreError::Unavailable {
                operation: OPERATION,
                reason: "sessions share a server session, as behind a pooler in transaction mode: \
                         connect without it, or set PRESENCE=false"
                    .to_owned(),
            }),
            false => Ok(()),
        }
    }

    async fn take(&self) -> Result<PgListener, sqlx::Error> {
        timeout(TAKE_TIMEOUT, self.try_take()).await.unwrap_or_else(|_| Err(no_reply()))
    }

    async fn try_take(&self) -> Result<PgListener, sqlx::Error> {
        // If the server refuses, the pool of the listener retries with pauses of up to seconds.
        // Other workers would reclaim the leases of this one meanwhile. So a plain connection is
        // tried first, every 50 ms.
        let probe = self.session.open().await?;
        probe.close().await?;
        let single =
            PgPoolOptions::new().max_connections(1).connect_lazy_with(self.session.options());
        let mut listener = PgListener::connect_with(&single).await?;
        listener.eager_reconnect(false);
        self.session.check(&mut listener).await?;
        let is_locked: bool =
            sqlx::query_scalar(LOCK).bind(self.worker.0).fetch_one(&mut listener).await?;
        if !is_locked {
            // The server has not yet ended the previous session of this worker.
            return Err(lost("an earlier session still holds the presence lock"));
        }
        sqlx::query(REGISTER).bind(self.worker.0).execute(&mut listener).await?;
        Ok(listener)
    }

    async fn becomes(&self, is_held: bool) {
        let mut held = self.held.subscribe();
        held.wait_for(|held| *held == is_held).await.expect("self owns the sender");
    }
}

impl Presence for PgPresence {
    async fn held(&self) {
        self.becomes(true).await;
    }

    fn is_held(&self) -> bool {
        *self.held.borrow()
    }

    fn renew(&self) {
        if self.enabled {
            // Wakes `hold_session`, which ends its session. Without a session there is nothing to
            // end.
            self.held.send_if_modified(|held| std::mem::replace(held, false));
        }
    }
}

/// Returns the error that ended the session. Only a pending read notices the end immediately.
async fn end_of(mut listener: PgListener) -> sqlx::Error {
    loop {
        match listener.try_recv().await {
            Ok(Some(_)) => {}
            Ok(None) => return sqlx::Error::PoolClosed,
            Err(error) => return error,
        }
    }
}

fn lost(reason: &str) -> sqlx::Error {
    sqlx::Error::Protocol(reason.to_owned())
}

pub(super) async fn absent_workers(
    db: &mut PgConnection,
    caller: WorkerId,
) -> sqlx::Result<Vec<WorkerId>> {
    let absent = sqlx::query_scalar(ABSENT).bind(caller.0).fetch_all(db).await?;
    Ok(absent.into_iter().map(WorkerId).collect())
}

pub(super) async fn forget(db: &mut PgConnection, worker: WorkerId) -> sqlx::Result<()> {
    sqlx::query(FORGET).bind(worker.0).execute(db).await.map(drop)
}
