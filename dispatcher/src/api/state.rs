//! State of the HTTP handlers. A leaf: the router and all handlers use it.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use sha2::{Digest, Sha256};
use tokio::sync::{Mutex, Notify, Semaphore};
use tokio::time::Instant;

use super::outages::Outages;
use crate::config::ApiConfig;
use crate::metrics::Metrics;
use crate::store::PgStore;
use crate::worker_health::WorkerHealth;

/// State that every handler receives. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    pub(super) store: PgStore,
    pub(super) config: Arc<ApiConfig>,
    /// SHA-256 of each of the `API_KEYS`.
    pub(super) key_digests: Arc<[[u8; 32]]>,
    /// One permit per byte of the request bodies that may be in memory.
    pub(super) body_bytes: Arc<Semaphore>,
    pub(super) shared: Shared,
    pub(super) outages: Arc<Outages>,
    /// Time of the last query of the gauges. Held while a query runs.
    pub(super) gauges_read_at: Arc<Mutex<Option<Instant>>>,
}

/// State that the API shares with the rest of the process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shared {
    /// Notified after each stored event, so that the worker claims it without waiting for a poll.
    pub(crate) wake: Arc<Notify>,
    pub(crate) metrics: Arc<Metrics>,
    /// Set when the schema is current. Until then, requests that need the database get 503.
    pub(crate) migrated: Arc<AtomicBool>,
    pub(crate) worker_health: Arc<WorkerHealth>,
}

impl Api {
    pub(crate) fn new(store: PgStore, config: ApiConfig, shared: Shared) -> Self {
        let digests = config.keys.iter().map(|key| Sha256::digest(key).into());
        Self {
            store,
            key_digests: digests.collect(),
            body_bytes: Arc::new(Semaphore::new(config.bodies_bytes_max)),
            config: Arc::new(config),
            shared,
            outages: Arc::default(),
            gauges_read_at: Arc::default(),
        }
    }
}
