//! Memory in place of a database, and a worker's access to it.
//!
//! The memory outlives its workers, as a database does.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::super::misbehavior::Misbehavior;
use super::database::Database;
use super::kept::KeptConnections;
use super::log::Log;
use crate::system::WorkerSpec;

/// Everything that was committed.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Events by id.
    pub(super) events: BTreeMap<String, Event>,
    /// The accepted post of each idempotency key.
    pub(super) keys: BTreeMap<String, KeyedPost>,
    /// Number of accepted events.
    pub(super) accepted: u64,
    /// Target of the event that was sent last.
    pub(super) last_target: Option<String>,
}

/// The first accepted post of an idempotency key.
#[derive(Clone, Debug)]
pub(super) struct KeyedPost {
    pub(super) id: String,
    pub(super) payload: String,
    pub(super) target: String,
}

/// One accepted event.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) number: u64,
    pub(super) payload: String,
    pub(super) target: String,
    pub(super) status: &'static str,
    pub(super) failures: u32,
    pub(super) attempt_count: u32,
    pub(super) due: Instant,
    /// Workers that hold the event. There is at most one unless the misbehavior ignores leases.
    pub(super) holders: Vec<String>,
    pub(super) attempts: Vec<Attempt>,
    /// True if the event is a row of the database that another client has inserted.
    pub(super) is_foreign: bool,
}

/// One attempt, as `GET /events/{id}` lists it.
#[derive(Clone, Debug, serde::Serialize)]
pub(super) struct Attempt {
    pub(super) number: u32,
    pub(super) outcome: &'static str,
    pub(super) status_code: Option<u16>,
}

impl Event {
    /// A new event, which is due.
    pub(super) fn new(number: u64, payload: String, target: String) -> Self {
        Self {
            number,
            payload,
            target,
            status: "pending",
            failures: 0,
            attempt_count: 0,
            due: Instant::now(),
            holders: Vec::new(),
            attempts: Vec::new(),
            is_foreign: false,
        }
    }

    pub(super) fn is_held_by(&self, worker: &str) -> bool {
        self.holders.iter().any(|holder| holder == worker)
    }

    pub(super) fn end_claim_of(&mut self, worker: &str) {
        self.holders.retain(|holder| holder != worker);
    }
}

/// One worker with its settings, its misbehavior and the shared memory.
#[derive(Clone, Debug)]
pub(super) struct Worker {
    pub(super) spec: WorkerSpec,
    pub(super) misbehavior: Misbehavior,
    pub(super) memory: Arc<Mutex<Memory>>,
    pub(super) log: Log,
    /// Cancelled when the worker must stop claiming.
    pub(super) stop: CancellationToken,
    /// Connections of the saboteur that does not check them.
    pub(super) kept: KeptConnections,
    /// The database, if the worker has one. The events are in memory in any case.
    pub(super) database: Option<Arc<Database>>,
}

impl Worker {
    pub(super) fn memory(&self) -> MutexGuard<'_, Memory> {
        lock(&self.memory)
    }

    /// Returns a setting from the worker's environment, or the default.
    pub(super) fn setting<T: FromStr>(&self, name: &str, default: T) -> T {
        let given = self.spec.env.get(name);
        given.and_then(|text| text.parse().ok()).unwrap_or(default)
    }

    /// Returns a setting of seconds in milliseconds.
    pub(super) fn setting_ms(&self, name: &str, default_ms: u64) -> u64 {
        let seconds = self.setting(name, default_ms as f64 / 1_000.0);
        Duration::from_secs_f64(seconds).as_millis() as u64
    }
}

/// Locks the memory. A worker that panicked with the lock held leaves whole entries.
pub(super) fn lock(memory: &Mutex<Memory>) -> MutexGuard<'_, Memory> {
    memory.lock().unwrap_or_else(PoisonError::into_inner)
}
