//! A durable webhook dispatcher with at-least-once delivery: `POST /events` is committed to Postgres and answered 202; a
//! worker claims due events, POSTs them signed to their target, and writes `delivered`, a retry, or `dead`.
//!
//! Read [`event`] for the words, [`api`] for what comes in, [`store`] for every transition, [`worker`] for what goes out and
//! [`backoff`] for the retry rule. [`serve`] below is the only place where they are wired together; `api` and `worker` meet in
//! Postgres and in one wake-up handle, nowhere else.

pub mod api;
pub mod backoff;
pub mod check;
pub mod config;
pub mod descriptors;
pub mod event;
pub mod metrics;
pub mod signature;
pub mod store;
pub mod target;
pub mod transport;
pub mod worker;

use std::time::Duration;

use rand::rngs::StdRng;
use tokio::net::TcpListener;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::api::{Api, Shared};
use crate::config::Config;
use crate::event::WorkerId;
use crate::store::{PgStore, SchemaError, StoreOptions};
use crate::transport::{HttpTransport, TransportError};
use crate::worker::{Parts, Worker};

/// How long to wait before Postgres is looked for again at start.
const START_PAUSE: Duration = Duration::from_millis(250);

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Takes events and delivers them.
    Serve,
    /// Takes events only.
    Api,
    /// Delivers only; health and metrics are still served.
    Worker,
}

/// Why a dispatcher had to end.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The HTTP client cannot be set up.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The schema is not ours.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// A part of the program panicked.
    #[error("a part of the dispatcher ended unexpectedly: {0}")]
    Panicked(#[from] JoinError),
}

/// Runs a dispatcher until `shutdown`, then stops it in order: no event is lost or sent twice by a stop.
///
/// # Errors
/// What it cannot run with, or could not go on after.
pub async fn serve(
    config: Config,
    role: Role,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let transport = HttpTransport::new(&config.transport)?;
    let store = PgStore::open(&StoreOptions::of(&config));
    let shared = Shared::default();
    let api = Api::new(store.clone(), config.api.clone(), shared.clone());
    let connections_max = config.api.connections_max;
    let router = if role == Role::Worker {
        api::operations_router(api)
    } else {
        api::router(api)
    };
    // The API answers at once, with 503 as long as there is no database.
    let serving = api::server::serve(
        listener,
        router,
        connections_max,
        (shutdown.clone(), config.worker.shutdown),
    );
    let serving = tokio::spawn(serving);
    let worked = work(
        config,
        role,
        (store.clone(), transport),
        shared,
        shutdown.clone(),
    )
    .await;
    shutdown.cancel();
    serving.await?;
    store.close().await;
    worked
}

/// Brings the schema up to date and then, unless this process only takes events, delivers until `shutdown`.
async fn work(
    config: Config,
    role: Role,
    (store, transport): (PgStore, HttpTransport),
    shared: Shared,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    if !migrate(store.clone(), shutdown.clone()).await? {
        return Ok(());
    }
    shared.migrated.set();
    tracing::info!("the schema is current");
    if role == Role::Api {
        shutdown.cancelled().await;
        return Ok(());
    }
    let mut rng: StdRng = rand::make_rng();
    let holder = WorkerId::fresh(&mut rng);
    let leave = CancellationToken::new();
    let present = config.worker.presence.then(|| {
        let (store, leave) = (store.clone(), leave.clone());
        tokio::spawn(async move { store.hold_presence(holder, leave).await })
    });
    let parts = Parts {
        store,
        transport,
        signer: config.transport.signer,
        rng,
        holder,
        wake: shared.wake,
        metrics: shared.metrics,
    };
    let shutdown_max = config.worker.shutdown;
    // The worker is one task: what it has under way is its own and ends with it.
    let mut working = tokio::spawn(Worker::new(config.worker, parts).run(shutdown.clone()));
    let (worked, stopping_since) = tokio::select! {
        worked = &mut working => (worked, Instant::now()),
        since = async { shutdown.cancelled().await; Instant::now() } => (working.await, since),
    };
    if let Some(present) = present {
        if matches!(worked, Ok(true)) {
            leave.cancel();
            end_by(stopping_since + shutdown_max, present).await?;
        } else {
            // Leases are left: the lock goes and the row stays, so that others see at once that their holder is gone.
            present.abort();
        }
    }
    worked.map(drop).map_err(ServeError::from)
}

/// Waits for the end of a task, and ends it when its time is over: `SHUTDOWN_SECONDS` are for all of a stop. A row that could
/// not be taken away hurts nobody.
async fn end_by(deadline: Instant, mut task: JoinHandle<()>) -> Result<(), JoinError> {
    match timeout_at(deadline, &mut task).await {
        Ok(ended) => ended,
        Err(_) => {
            task.abort();
            Ok(())
        }
    }
}

/// Applies the migrations as soon as Postgres is there; says whether it did, or was told to stop before.
async fn migrate(store: PgStore, shutdown: CancellationToken) -> Result<bool, SchemaError> {
    let mut waited = false;
    loop {
        let error = tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(false),
            migrated = store.migrate() => match migrated {
                Ok(()) => return Ok(true),
                Err(foreign @ SchemaError::Foreign(_)) => return Err(foreign),
                Err(unavailable) => unavailable,
            },
        };
        if !waited {
            tracing::warn!(%error, "waiting for Postgres; requests are answered 503 meanwhile");
        }
        waited = true;
        tokio::time::sleep(START_PAUSE).await;
    }
}

impl StoreOptions {
    /// What the configuration says about the store.
    pub fn of(config: &Config) -> Self {
        Self {
            database: config.database.clone(),
            accept_connections: config.accept_connections,
            work_connections: config.work_connections,
            presence: config.worker.presence,
        }
    }
}

/// Makes ring the process's TLS provider; called first in `main` and in test helpers, harmless when called again.
pub fn install_tls_provider() {
    // An error means that a provider is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

#[cfg(test)]
mod tests {
    use super::*;

    // The database may be stalled: what is left to do there would take five seconds more than a stop may.
    #[tokio::test(start_paused = true)]
    async fn a_task_that_does_not_end_is_ended_at_its_deadline() {
        let deadline = Instant::now() + Duration::from_secs(20);
        let ended = end_by(deadline, tokio::spawn(std::future::pending())).await;
        assert!(ended.is_ok());
        assert_eq!(Instant::now(), deadline);
    }
}
