//! State of the HTTP handlers. The router and all handlers use it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::sync::{Mutex as AsyncMutex, Notify, Semaphore};
use tokio::time::Instant;

use super::problem::Problem;
use crate::accept::Acceptor;
use crate::config::ApiConfig;
use crate::metrics::Metrics;
use crate::store::{PgStore, StoreError};
use crate::throttle::Throttle;
use crate::worker_health::WorkerHealth;

const OUTAGE_LOG_INTERVAL: Duration = Duration::from_secs(30);

/// State that every handler receives.
#[derive(Debug)]
pub(crate) struct Api {
    pub(super) store: PgStore,
    pub(super) acceptor: Acceptor,
    pub(super) config: ApiConfig,
    /// SHA-256 of each of the `API_KEYS`.
    pub(super) key_digests: Vec<[u8; 32]>,
    /// One permit per byte of the request bodies that may be in memory.
    pub(super) body_bytes: Arc<Semaphore>,
    pub(super) shared: Shared,
    outage_log: Mutex<Throttle>,
    /// Time of the next query of the gauges. Held while a query runs.
    pub(super) gauges_due_at: AsyncMutex<Option<Instant>>,
}

/// State that the API shares with the rest of the process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shared {
    /// Notified after a commit that left events pending, so that the worker claims them without
    /// waiting for a poll.
    pub(crate) wake: Arc<Notify>,
    pub(crate) metrics: Arc<Metrics>,
    /// Set when the schema is current. Until then, requests that need the database get 503.
    pub(crate) migrated: Arc<AtomicBool>,
    pub(crate) worker_health: Arc<WorkerHealth>,
}

impl Api {
    pub(crate) fn new(
        store: PgStore,
        acceptor: Acceptor,
        config: ApiConfig,
        shared: Shared,
    ) -> Arc<Self> {
        let digests = config.keys.iter().map(|key| Sha256::digest(key).into());
        Arc::new(Self {
            store,
            acceptor,
            key_digests: digests.collect(),
            body_bytes: Arc::new(Semaphore::new(config.bodies_bytes_max)),
            config,
            shared,
            outage_log: Mutex::new(Throttle::new(OUTAGE_LOG_INTERVAL)),
            gauges_due_at: AsyncMutex::default(),
        })
    }

    /// Returns a problem with this advice until the schema is current.
    pub(super) fn require_schema(&self, advice: &str) -> Result<(), Problem> {
        if self.shared.migrated.load(Ordering::Acquire) {
            return Ok(());
        }
        let reason = "the dispatcher has not reached its database yet";
        Err(Problem::unavailable(format!("{reason}; {advice}")))
    }

    /// Logs a failed database call.
    pub(super) fn log_outage(&self, error: &StoreError) {
        if self.outage_log.lock().is_due(Instant::now()) {
            tracing::warn!(%error, "database call of a request failed, request gets 503");
        }
    }
}
