//! A durable webhook dispatcher with at-least-once delivery.
//!
//! `POST /events` is committed to Postgres and gets a 202. A worker claims due events, sends them,
//! signed, to their targets, and writes `delivered`, a retry or `dead`.
//!
//! [`event`] defines the data, `api` and [`accept`] accept events, [`store`] contains every
//! transition, [`worker`] delivers, and [`backoff`] is the retry rule. [`serve`] is the only
//! wiring: `api` and `worker` meet in Postgres, in one wake-up handle and in [`hand_off`].

pub mod accept;
mod api;
pub mod backoff;
pub mod check;
mod clock;
pub mod config;
pub mod descriptors;
pub mod event;
pub mod hand_off;
pub mod host;
pub mod log;
pub mod metrics;
pub mod signature;
pub mod store;
pub mod target;
mod throttle;
pub mod transport;
pub mod worker;
pub mod worker_health;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use tokio::net::TcpListener;
use tokio::task::JoinError;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::api::{Api, Shared};
use crate::config::{Config, WorkerConfig};
use crate::event::WorkerId;
use crate::hand_off::HandOff;
use crate::store::{PgPresence, PgStore, SchemaError};
use crate::transport::{HttpTransport, TransportError};
use crate::worker::{Parts, Worker};

/// Interval of equal log lines while the start waits for Postgres.
const LOG_EVERY: Duration = Duration::from_secs(30);

/// The role of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Accepts and delivers events.
    Serve,
    /// Only accepts events.
    Api,
    /// Only delivers events. Health and metrics are still served.
    Worker,
}

/// Why a dispatcher exited.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The HTTP client could not be created.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The schema does not belong to this program.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// A task panicked.
    #[error("a task of the dispatcher ended unexpectedly: {0}")]
    Panicked(#[from] JoinError),
}

/// Runs a dispatcher until `shutdown`, then drains the worker within `SHUTDOWN_SECONDS`.
///
/// # Errors
/// The HTTP client or the schema is not usable, or a task panicked.
pub async fn serve(
    config: Config,
    role: Role,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let transport = HttpTransport::new(&config.transport)?;
    let store = PgStore::open(&config.store);
    let shared = Shared::default();
    let (hand_off, handed_over) = HandOff::new();
    let (acceptor, accepting) = accept::acceptor(accept::Parts {
        store: store.clone(),
        connections: config.store.accept_connections,
        hand_off: Arc::clone(&hand_off),
        stored: Arc::clone(&shared.wake),
        metrics: Arc::clone(&shared.metrics),
        rng: rand::make_rng::<StdRng>(),
    });
    let mut accepting = AbortOnDropHandle::new(tokio::spawn(accepting));
    let api = Api::new(store.clone(), acceptor.clone(), config.api.clone(), shared.clone());
    let connections_max = config.api.connections_max;
    let router = api::router(api, role != Role::Worker);
    // The API responds immediately, with 503 while the database is unreachable.
    let (stop, stop_timeout) = (shutdown.clone(), config.worker.shutdown);
    let serving = api::server::serve(listener, router, connections_max, stop, stop_timeout);
    let serving = tokio::spawn(serving);
    let mut rng: StdRng = rand::make_rng();
    let id = WorkerId::random(&mut rng);
    let health = shared.worker_health;
    let parts = Parts {
        store: store.clone(),
        presence: PgPresence::new(&store, id, config.worker.presence, Arc::clone(&health)),
        transport,
        signer: config.transport.signer,
        rng,
        id,
        wake: shared.wake,
        hand_off,
        handed_over,
        metrics: shared.metrics,
        health,
    };
    let working = work(config.worker, role, parts, shared.migrated, shutdown.clone());
    let worked = tokio::select! {
        worked = working => worked,
        // Only a panic ends it while an acceptor exists.
        ended = &mut accepting => ended.map_err(ServeError::from),
    };
    drop(acceptor);
    shutdown.cancel();
    serving.await?;
    store.close().await;
    worked
}

/// Migrates the schema, then delivers events until `shutdown`. With [`Role::Api`], only migrates
/// and waits.
async fn work(
    config: WorkerConfig,
    role: Role,
    parts: Parts<PgStore, PgPresence, HttpTransport, StdRng>,
    migrated: Arc<AtomicBool>,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let store = &parts.store;
    let Some(ended) = shutdown.run_until_cancelled(migrate(store)).await else {
        return Ok(());
    };
    ended?;
    migrated.store(true, Ordering::Release);
    tracing::info!("schema is current");
    let watching = clock::watch(store.clone(), Arc::clone(&parts.metrics));
    let _watching = AbortOnDropHandle::new(tokio::spawn(watching));
    let watching = store.clone().watch_transactions();
    let _watching_transactions = AbortOnDropHandle::new(tokio::spawn(watching));
    if role == Role::Api {
        shutdown.cancelled().await;
        return Ok(());
    }
    let hand_off = Arc::clone(&parts.hand_off);
    let leave = CancellationToken::new();
    let holding = config.presence.then(|| {
        let (presence, leave) = (parts.presence.clone(), leave.clone());
        AbortOnDropHandle::new(tokio::spawn(async move { presence.hold(leave).await }))
    });
    let shutdown_max = config.shutdown;
    // The worker owns all its futures, so they end with this task.
    let mut working = tokio::spawn(Worker::new(config, parts).run(shutdown.clone()));
    let (worked, stopping_since) = tokio::select! {
        worked = &mut working => (worked, Instant::now()),
        since = async { shutdown.cancelled().await; Instant::now() } => (working.await, since),
    };
    // Also after a panic, no event may be stored for this worker.
    hand_off.close();
    // If claims are left, the session ends without deleting the row, so that other workers see the
    // absent lock and reclaim them.
    if let Some(holding) = holding
        && matches!(worked, Ok(true))
    {
        leave.cancel();
        end_by(stopping_since + shutdown_max, holding).await?;
    }
    worked.map(drop).map_err(ServeError::from)
}

/// Waits for a task until `deadline`, then aborts it: `SHUTDOWN_SECONDS` limits the whole stop. If
/// the row is not deleted, other workers delete it later.
async fn end_by(deadline: Instant, task: AbortOnDropHandle<()>) -> Result<(), JoinError> {
    timeout_at(deadline, task).await.unwrap_or(Ok(()))
}

/// Migrates as soon as Postgres is reachable and permits it.
async fn migrate(store: &PgStore) -> Result<(), SchemaError> {
    let mut logged: Option<(String, Instant)> = None;
    while let Err(error) = store.migrate().await {
        let Some(pause) = error.retry_after() else {
            return Err(error);
        };
        // Another reason, such as a lock after an outage, is logged immediately.
        let (reason, now) = (error.to_string(), Instant::now());
        let is_new = |(last, at): &(String, Instant)| *last != reason || now - *at >= LOG_EVERY;
        if logged.as_ref().is_none_or(is_new) {
            tracing::warn!(%error, "waiting for Postgres, requests get 503 until then");
            logged = Some((reason, now));
        }
        sleep(pause).await;
    }
    Ok(())
}

/// Installs ring as the TLS provider of the process. Further calls have no effect.
pub fn install_tls_provider() {
    // `Err` means that a provider is already installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

#[cfg(test)]
mod tests {
    use super::*;

    // If the database is stalled, deleting the row would exceed the time of the stop by five
    // seconds.
    #[tokio::test(start_paused = true)]
    async fn task_is_aborted_at_its_deadline() {
        let deadline = Instant::now() + Duration::from_secs(20);
        let task = AbortOnDropHandle::new(tokio::spawn(std::future::pending()));
        let ended = end_by(deadline, task).await;
        assert!(ended.is_ok());
        assert_eq!(Instant::now(), deadline);
    }
}
