//! Presence: a session advisory lock that is held exactly as long as this process lives and is connected.
//!
//! The lock comes first, the row in `workers` second, the first claim last; so a row without a lock means that its process
//! is gone. If the connection ends while the process lives, nothing is claimed until the same lock is held again. It may
//! end without our being told (a gateway forgot it, the server gave us up): then the worker, whose looks miss its own lock
//! or row, has it renewed. A pooler in transaction mode cannot carry a session's lock: there `PRESENCE=false` leaves it all
//! to the leases.

use std::time::Duration;

use sqlx::postgres::{PgListener, PgPoolOptions};
use sqlx::{Connection, PgConnection, Row};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::PgStore;
use crate::event::WorkerId;

/// How long to wait before the lock is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(50);

/// How long taking the lock may take.
const TAKING_SECONDS_MAX: Duration = Duration::from_secs(5);

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

impl PgStore {
    /// Whoever holds the lock for us is to take it again; nothing is claimed meanwhile. Nothing to do where it is not held.
    pub(super) fn drop_presence(&self) {
        self.presence
            .send_if_modified(|held| std::mem::replace(held, false));
    }

    /// Holds the lock of `holder`, again and again, until it is told to stop; then takes the row away.
    pub async fn hold_presence(&self, holder: WorkerId, stop: CancellationToken) {
        let mut told = false;
        while !stop.is_cancelled() {
            let ended = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                ended = self.hold_once(holder) => ended,
            };
            let was_held = self.presence.send_replace(false) || ended.is_none();
            let error = ended.unwrap_or_else(|| {
                sqlx::Error::Protocol("its lock or its row is absent from the server".into())
            });
            if was_held || !told {
                tracing::warn!(worker.holder = %holder, %error,
                    "presence is not held: nothing is claimed until it is");
                told = true;
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = sleep(RETRY_AFTER) => {}
            }
        }
        self.presence.send_replace(false);
        if let Ok(mut lent) = self.work.lend("leaving").await {
            let left =
                tokio::time::timeout_at(lent.deadline, forget(lent.connection(), holder)).await;
            let _ = lent.conclude(left);
        }
    }

    /// Takes the lock, registers, and returns when the connection has ended and why; or nothing if it was given up.
    async fn hold_once(&self, holder: WorkerId) -> Option<sqlx::Error> {
        let listener = match timeout(TAKING_SECONDS_MAX, self.take(holder)).await {
            Ok(Ok(listener)) => listener,
            Ok(Err(error)) => return Some(error),
            Err(_) => return Some(sqlx::Error::PoolTimedOut),
        };
        self.presence.send_replace(true);
        tracing::info!(worker.holder = %holder, "presence held");
        tokio::select! {
            biased;
            ended = end_of(listener) => Some(ended),
            () = self.presence_becomes(false) => None,
        }
    }

    async fn take(&self, holder: WorkerId) -> Result<PgListener, sqlx::Error> {
        // The listener's pool meets a server that refuses by pauses that grow to seconds: whoever comes back sooner would
        // take this worker for gone. So it is asked for a session only when one is to be had.
        let probe = PgConnection::connect_with(&self.presence_options).await?;
        probe.close().await?;
        let own = PgPoolOptions::new()
            .max_connections(1)
            .connect_lazy_with(self.presence_options.clone());
        let mut listener = PgListener::connect_with(&own).await?;
        listener.eager_reconnect(false);
        let locked: bool = sqlx::query_scalar(LOCK)
            .bind(holder.0)
            .fetch_one(&mut listener)
            .await?;
        if !locked {
            // Our own former session is not yet gone from the server.
            return Err(sqlx::Error::Protocol(
                "the presence lock is still held by an earlier session".into(),
            ));
        }
        sqlx::query(REGISTER)
            .bind(holder.0)
            .execute(&mut listener)
            .await?;
        Ok(listener)
    }
}

/// Why the connection has ended: reading is what notices it at once.
async fn end_of(mut listener: PgListener) -> sqlx::Error {
    loop {
        match listener.try_recv().await {
            Ok(Some(_)) => {}
            Ok(None) => return sqlx::Error::PoolClosed,
            Err(error) => return error,
        }
    }
}

pub(super) async fn absent_workers(
    connection: &mut PgConnection,
    own: WorkerId,
) -> Result<Vec<WorkerId>, sqlx::Error> {
    let rows = sqlx::query(ABSENT)
        .bind(own.0)
        .fetch_all(connection)
        .await?;
    rows.iter()
        .map(|row| row.try_get("holder").map(WorkerId))
        .collect()
}

pub(super) async fn forget(
    connection: &mut PgConnection,
    holder: WorkerId,
) -> Result<(), sqlx::Error> {
    sqlx::query(FORGET)
        .bind(holder.0)
        .execute(connection)
        .await
        .map(drop)
}
