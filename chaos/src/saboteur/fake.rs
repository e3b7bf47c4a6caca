//! The fake dispatcher: the API and the retries of the contract, with memory in place of a
//! database.
//!
//! Each worker has its own runtime, so a kill ends its connections and attempts immediately, as the
//! kill of a process does.

mod api;
mod database;
mod delivery;
mod kept;
mod memory;

use std::collections::BTreeMap;
use std::io;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::time::Instant;

use super::misbehavior::Misbehavior;
use crate::system::{Exit, System, SystemError, WorkerSpec};
use database::Database;
use memory::{Attempt, Memory, Worker, lock};

/// Upper bound for the end of a worker's runtime. It normally ends within milliseconds.
const END_MAX: Duration = Duration::from_secs(10);

/// The setting with the database URL of a worker.
const DATABASE_URL: &str = "DATABASE_URL";

/// A dispatcher that runs inside the harness and deviates by one misbehavior.
#[derive(Debug)]
pub struct FakeDispatcher {
    misbehavior: Misbehavior,
    memory: Arc<Mutex<Memory>>,
    workers: BTreeMap<String, Runtime>,
}

impl FakeDispatcher {
    /// A fake dispatcher without workers or events.
    pub fn new(misbehavior: Misbehavior) -> Self {
        Self { misbehavior, memory: Arc::default(), workers: BTreeMap::new() }
    }

    async fn end(&mut self, name: &str) -> Result<Exit, SystemError> {
        let worker = self.workers.remove(name);
        let worker = worker.ok_or_else(|| SystemError::Unknown(name.to_owned()))?;
        // A thread that still ran could claim an event after the worker's claims have ended.
        let ending = tokio::task::spawn_blocking(move || worker.shutdown_timeout(END_MAX));
        ending.await.map_err(|error| SystemError::Os {
            doing: format!("ending {name}"),
            source: error.into(),
        })?;
        if self.misbehavior.reclaims() {
            self.reclaim(name);
        }
        Ok(Exit { code: None, signal: Some(9), forced: false })
    }

    /// Records the open attempts of a killed worker as abandoned and makes their events due.
    fn reclaim(&self, name: &str) {
        let mut memory = lock(&self.memory);
        for event in memory.events.values_mut().filter(|e| e.is_held_by(name)) {
            event.end_claim_of(name);
            event.due = Instant::now();
            let number = event.attempt_count;
            event.attempts.push(Attempt { number, outcome: "abandoned", status_code: None });
        }
    }
}

impl System for FakeDispatcher {
    async fn start(&mut self, spec: &WorkerSpec) -> Result<(), SystemError> {
        let failed = |source| SystemError::Os { doing: format!("starting {}", spec.name), source };
        let listener = TcpListener::bind(spec.bind).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(failed)?;
        let worker = Worker {
            spec: spec.clone(),
            misbehavior: self.misbehavior,
            memory: Arc::clone(&self.memory),
            kept: kept::KeptConnections::default(),
            database: open_database(&runtime, spec, self.misbehavior).await.map_err(failed)?,
        };
        runtime.spawn(api::serve(listener, worker.clone()));
        runtime.spawn(delivery::run(worker));
        self.workers.insert(spec.name.clone(), runtime);
        Ok(())
    }

    async fn wait_ready(&self, name: &str, _within: Duration) -> Result<(), SystemError> {
        // The worker has listened since `start` and needs nothing else to be ready.
        let running = self.is_running(name);
        running.then_some(()).ok_or_else(|| SystemError::Unknown(name.to_owned()))
    }

    async fn kill(&mut self, name: &str) -> Result<Exit, SystemError> {
        self.end(name).await
    }

    async fn terminate(&mut self, name: &str, _grace: Duration) -> Result<Exit, SystemError> {
        self.end(name).await
    }

    async fn pause(&mut self, _name: &str) -> Result<(), SystemError> {
        let why = "it runs inside the harness".to_owned();
        Err(SystemError::Unavailable { driver: "fake", why })
    }

    async fn resume(&mut self, _name: &str) -> Result<(), SystemError> {
        Ok(())
    }

    fn is_running(&self, name: &str) -> bool {
        self.workers.contains_key(name)
    }

    fn replaces_hosts(&self) -> Result<(), String> {
        // Its HTTP client knows both addresses of the name.
        Ok(())
    }

    async fn stop_all(&mut self) -> Result<(), SystemError> {
        for (_, runtime) in std::mem::take(&mut self.workers) {
            runtime.shutdown_background();
        }
        Ok(())
    }

    fn describe(&self) -> String {
        format!("fake dispatcher inside the harness ({:?})", self.misbehavior)
    }
}

/// Opens the database of a worker that has one. Its sessions end with the runtime.
async fn open_database(
    runtime: &Runtime,
    spec: &WorkerSpec,
    misbehavior: Misbehavior,
) -> io::Result<Option<Arc<Database>>> {
    let Some(url) = spec.env.get(DATABASE_URL).cloned() else {
        return Ok(None);
    };
    let opening = runtime.spawn(async move { Database::open(&url, misbehavior).await });
    let opened = opening.await.map_err(io::Error::from)?;
    opened.map(|database| Some(Arc::new(database))).map_err(io::Error::other)
}

impl Drop for FakeDispatcher {
    fn drop(&mut self) {
        // Dropping a runtime inside of async code panics.
        for (_, runtime) in std::mem::take(&mut self.workers) {
            runtime.shutdown_background();
        }
    }
}
