//! The fake dispatcher: the API and the retries of the contract, with memory in place of a
//! database.
//!
//! Each worker has its own runtime, so a kill ends its connections and attempts immediately, as the
//! kill of a process does.

mod api;
mod database;
mod delivery;
mod kept;
mod log;
mod memory;

use std::collections::BTreeMap;
use std::io;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::misbehavior::Misbehavior;
use crate::system::{Exit, System, SystemError, WorkerSpec};
use database::Database;
use log::Log;
use memory::{Attempt, Memory, Worker, lock};

/// Upper bound for the end of a worker's runtime. It normally ends within milliseconds.
const END_MAX: Duration = Duration::from_secs(10);

/// Exit of a worker that was stopped and has settled its attempts.
const STOPPED: Exit = Exit { code: Some(0), signal: None, forced: false };
/// Exit of a worker that was killed.
const KILLED: Exit = Exit { code: None, signal: Some(9), forced: false };
/// Exit of a process that panicked.
const PANICKED: Exit = Exit { code: Some(101), signal: None, forced: false };

/// The setting with the database URL of a worker.
const DATABASE_URL: &str = "DATABASE_URL";

/// A dispatcher that runs inside the harness and deviates by one misbehavior.
#[derive(Debug)]
pub struct FakeDispatcher {
    misbehavior: Misbehavior,
    memory: Arc<Mutex<Memory>>,
    workers: BTreeMap<String, Running>,
    /// Workers that exited by themselves.
    ended: BTreeMap<String, Exit>,
}

/// A worker that runs.
#[derive(Debug)]
struct Running {
    runtime: Runtime,
    /// Makes the worker stop claiming.
    stop: CancellationToken,
    /// Ends after the stop, with the last attempt.
    deliveries: JoinHandle<()>,
}

impl FakeDispatcher {
    /// A fake dispatcher without workers or events.
    pub fn new(misbehavior: Misbehavior) -> Self {
        Self {
            misbehavior,
            memory: Arc::default(),
            workers: BTreeMap::new(),
            ended: BTreeMap::new(),
        }
    }

    async fn end(&mut self, name: &str) -> Result<Exit, SystemError> {
        let worker = self.workers.remove(name);
        let worker = worker.ok_or_else(|| SystemError::Unknown(name.to_owned()))?.runtime;
        // A thread that still ran could claim an event after the worker's claims have ended.
        let ending = tokio::task::spawn_blocking(move || worker.shutdown_timeout(END_MAX));
        ending.await.map_err(|error| SystemError::Os {
            doing: format!("ending {name}"),
            source: error.into(),
        })?;
        if self.misbehavior.reclaims() {
            self.reclaim(name);
        }
        Ok(KILLED)
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
        let log = Log::open(&spec.log).map_err(failed)?;
        let written = log.append("started").await;
        if self.misbehavior.exits_without_its_log() && !matches!(written, Ok(Ok(()))) {
            runtime.shutdown_background();
            self.ended.insert(spec.name.clone(), PANICKED);
            return Ok(());
        }
        let stop = CancellationToken::new();
        let worker = Worker {
            spec: spec.clone(),
            log,
            stop: stop.clone(),
            misbehavior: self.misbehavior,
            memory: Arc::clone(&self.memory),
            kept: kept::KeptConnections::default(),
            database: open_database(&runtime, spec, self.misbehavior).await.map_err(failed)?,
        };
        runtime.spawn(api::serve(listener, worker.clone()));
        let deliveries = runtime.spawn(delivery::run(worker));
        self.ended.remove(&spec.name);
        self.workers.insert(spec.name.clone(), Running { runtime, stop, deliveries });
        Ok(())
    }

    async fn wait_ready(&self, name: &str, _within: Duration) -> Result<(), SystemError> {
        if let Some(exit) = self.ended.get(name) {
            let (name, exit) = (name.to_owned(), *exit);
            return Err(SystemError::Ended { name, exit, log: String::new() });
        }
        // The worker has listened since `start` and needs nothing else to be ready.
        let running = self.is_running(name);
        running.then_some(()).ok_or_else(|| SystemError::Unknown(name.to_owned()))
    }

    async fn kill(&mut self, name: &str) -> Result<Exit, SystemError> {
        self.end(name).await
    }

    async fn terminate(&mut self, name: &str, grace: Duration) -> Result<Exit, SystemError> {
        if let Some(worker) = self.workers.get_mut(name) {
            worker.stop.cancel();
            if timeout(grace, &mut worker.deliveries).await.is_ok() {
                self.end(name).await?;
                return Ok(STOPPED);
            }
        }
        Ok(Exit { forced: true, ..self.end(name).await? })
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

    fn opens_logs(&self) -> bool {
        true
    }

    fn replaces_hosts(&self) -> Result<(), String> {
        // Its HTTP client knows both addresses of the name.
        Ok(())
    }

    async fn stop_all(&mut self) -> Result<(), SystemError> {
        for (_, worker) in std::mem::take(&mut self.workers) {
            worker.runtime.shutdown_background();
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
        for (_, worker) in std::mem::take(&mut self.workers) {
            worker.runtime.shutdown_background();
        }
    }
}
