//! The stand-in dispatcher: the contract's API and retries, with a map in place of a database.
//!
//! A worker is a runtime of its own, so that a kill ends its connections and attempts at once, as the
//! kill of a process does. The map outlives its workers, as a database does.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::time::Instant;

use super::{Lie, api, delivery};
use crate::system::{Exit, System, SystemError, WorkerSpec};

/// How long the end of a worker may take; it is over as soon as its thread is.
const END: Duration = Duration::from_secs(10);

/// A dispatcher that runs inside the harness and may lie.
#[derive(Debug)]
pub struct StandIn {
    lie: Arc<dyn Lie>,
    held: Arc<Mutex<Held>>,
    workers: BTreeMap<String, Runtime>,
}

/// What takes the place of the database.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// Events by id.
    pub(super) events: BTreeMap<String, Event>,
    /// What was accepted under each idempotency key.
    pub(super) keys: BTreeMap<String, Known>,
    /// Events accepted so far.
    pub(super) accepted: u64,
}

/// What was accepted under an idempotency key.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) id: String,
    pub(super) payload: String,
    pub(super) target: String,
}

/// One event of the stand-in.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) number: u64,
    pub(super) payload: String,
    pub(super) target: String,
    pub(super) status: &'static str,
    pub(super) failures: u32,
    pub(super) attempt_count: u32,
    pub(super) due: Instant,
    /// The workers that hold it; an honest one holds it alone.
    pub(super) holders: Vec<String>,
    pub(super) attempts: Vec<Attempt>,
}

/// One attempt of the stand-in.
#[derive(Clone, Debug, serde::Serialize)]
pub(super) struct Attempt {
    pub(super) number: u32,
    pub(super) outcome: &'static str,
    pub(super) status_code: Option<u16>,
}

/// One worker's view of the stand-in.
#[derive(Clone, Debug)]
pub(super) struct Worker {
    pub(super) spec: WorkerSpec,
    pub(super) lie: Arc<dyn Lie>,
    pub(super) held: Arc<Mutex<Held>>,
}

impl Worker {
    pub(super) fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A setting, or what it is without being given.
    pub(super) fn setting<T: FromStr>(&self, name: &str, default: T) -> T {
        let given = self.spec.env.get(name);
        given.and_then(|text| text.parse().ok()).unwrap_or(default)
    }

    /// A setting of seconds, in milliseconds.
    pub(super) fn setting_ms(&self, name: &str, default_ms: u64) -> u64 {
        let seconds = self.setting(name, default_ms as f64 / 1_000.0);
        Duration::from_secs_f64(seconds).as_millis() as u64
    }
}

impl StandIn {
    /// A stand-in that differs from an honest one by `lie`.
    #[must_use]
    pub fn new(lie: Arc<dyn Lie>) -> StandIn {
        StandIn {
            lie,
            held: Arc::default(),
            workers: BTreeMap::new(),
        }
    }

    async fn end(&mut self, name: &str) -> Result<Exit, SystemError> {
        let worker = self.workers.remove(name);
        let worker = worker.ok_or_else(|| SystemError::Unknown(name.to_owned()))?;
        // Waited for: a thread that still runs could claim once more after its claims are given up.
        let ending = tokio::task::spawn_blocking(move || worker.shutdown_timeout(END));
        ending.await.map_err(|error| SystemError::Os {
            doing: format!("ending {name}"),
            source: error.into(),
        })?;
        if self.lie.reclaims() {
            self.reclaim(name);
        }
        Ok(Exit {
            code: None,
            signal: Some(9),
            forced: false,
        })
    }

    /// Gives up the attempts that died with a worker: abandoned, and due at once.
    fn reclaim(&self, name: &str) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        for event in held.events.values_mut().filter(|e| e.is_held_by(name)) {
            event.let_go(name);
            event.due = Instant::now();
            let number = event.attempt_count;
            event.attempts.push(Attempt {
                number,
                outcome: "abandoned",
                status_code: None,
            });
        }
    }
}

impl Event {
    pub(super) fn is_held_by(&self, worker: &str) -> bool {
        self.holders.iter().any(|holder| holder == worker)
    }

    pub(super) fn let_go(&mut self, worker: &str) {
        self.holders.retain(|holder| holder != worker);
    }
}

impl System for StandIn {
    async fn start(&mut self, spec: &WorkerSpec) -> Result<(), SystemError> {
        let failed = |source| SystemError::Os {
            doing: format!("starting {}", spec.name),
            source,
        };
        let listener = TcpListener::bind(spec.bind).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(failed)?;
        let (lie, held) = (Arc::clone(&self.lie), Arc::clone(&self.held));
        let worker = Worker {
            spec: spec.clone(),
            lie,
            held,
        };
        runtime.spawn(api::serve(listener, worker.clone()));
        runtime.spawn(delivery::run(worker));
        self.workers.insert(spec.name.clone(), runtime);
        Ok(())
    }

    async fn wait_ready(&self, name: &str, _within: Duration) -> Result<(), SystemError> {
        // It listens since `start`, and there is nothing else to be ready for.
        let running = self.is_running(name);
        running
            .then_some(())
            .ok_or_else(|| SystemError::Unknown(name.to_owned()))
    }

    async fn kill(&mut self, name: &str) -> Result<Exit, SystemError> {
        self.end(name).await
    }

    async fn terminate(&mut self, name: &str, _grace: Duration) -> Result<Exit, SystemError> {
        self.end(name).await
    }

    async fn pause(&mut self, _name: &str) -> Result<(), SystemError> {
        let why = "it runs inside the harness".to_owned();
        Err(SystemError::Unavailable {
            driver: "stand-in",
            why,
        })
    }

    async fn resume(&mut self, _name: &str) -> Result<(), SystemError> {
        Ok(())
    }

    fn is_running(&self, name: &str) -> bool {
        self.workers.contains_key(name)
    }

    async fn stop_all(&mut self) -> Result<(), SystemError> {
        for (_, runtime) in std::mem::take(&mut self.workers) {
            runtime.shutdown_background();
        }
        Ok(())
    }

    fn describe(&self) -> String {
        format!("stand-in inside the harness ({:?})", self.lie)
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        // A runtime must not be dropped where async code runs.
        for (_, runtime) in std::mem::take(&mut self.workers) {
            runtime.shutdown_background();
        }
    }
}
