//! The system as faults see it: workers, links, receivers, clients and the database server.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::observed::{Start, Stopped};
use crate::environment::Server;
use crate::history::op::{Op, PEER_CLOSED, WorkerSeen};
use crate::links::Links;
use crate::pair::Pair;
use crate::plan::Section;
use crate::postgres::OwnServer;
use crate::profile::Settings;
use crate::recorder::Recorder;
use crate::switch::ReceiverSwitch;
use crate::system::{Exit, System, SystemError, WorkerSpec};
use crate::workload::{Apis, Workload};

/// How long the receivers may take to notice that a sender has exited.
const NOTICE: Duration = Duration::from_secs(1);
/// How long a restarted worker may take until it is ready.
const READY: Duration = Duration::from_secs(60);
/// How long a stop may take beyond `SHUTDOWN_SECONDS` before it is forced, in milliseconds.
const STOP_SLACK_MS: u64 = 5_000;

/// The system under test, with the handles that faults need.
#[derive(Debug)]
pub struct World<'a, S> {
    /// The driver of the workers.
    pub system: &'a mut S,
    /// The workers of the main section.
    pub workers: &'a [WorkerSpec],
    /// The APIs of these workers.
    pub apis: &'a Apis,
    /// The links between the parts.
    pub links: &'a Links,
    /// The clients.
    pub workload: &'a Workload,
    /// The switch that changes the behavior of receivers.
    pub switch: &'a ReceiverSwitch,
    /// The history.
    pub recorder: &'a Recorder,
    /// The settings of the workers.
    pub settings: &'a Settings,
    /// The Postgres server of the main section.
    pub server: &'a mut Server,
    /// The name with two addresses, if the plan needs it and the machine has the addresses.
    pub pair: Option<&'a Pair>,
}

impl<S> World<'_, S> {
    /// Returns the requests that were open at the start, or began since, and whose sender has
    /// exited. A request of another worker is not among them.
    ///
    /// Requests that began since the start belong to them because a kill takes time: an engine
    /// takes a few hundred milliseconds to kill a container.
    pub(super) async fn went_away(&self, start: &Start) -> Vec<String> {
        let open = self.recorder.open_since(&start.open, start.at_us);
        let until = Instant::now() + NOTICE;
        let mut changed = self.recorder.changed();
        // Wakes at each line of the history. Stops when all requests have ended or the time is
        // over.
        while self.recorder.endings(&open, start.at_us).len() < open.len() {
            if timeout_at(until, changed.changed()).await.is_err() {
                break;
            }
        }
        let closed = |how: &str| how == PEER_CLOSED || how == "hung_until_peer_closed";
        // An attempt that a running worker ends at its deadline looks the same, except for its age.
        // Nine tenths: the deadline began before the request arrived.
        let deadline_us = self.settings.http_timeout_ms * 900;
        let early = |req: &str, end_us: u64| {
            let begin = open.get(req);
            begin.is_some_and(|begin| end_us.saturating_sub(*begin) < deadline_us)
        };
        let endings = self.recorder.endings(&open, start.at_us);
        endings
            .into_iter()
            .filter(|(req, how, end_us)| closed(how) && early(req, *end_us))
            .map(|(req, ..)| req)
            .collect()
    }

    /// The server of the main section.
    ///
    /// # Errors
    /// `Unavailable` if other runs or users may be on the server.
    pub(super) fn own_server(&mut self) -> Result<&mut OwnServer, SystemError> {
        match self.server {
            Server::Own(own) => Ok(own),
            Server::Shared { reason } => {
                Err(SystemError::Unavailable { driver: "postgres", why: reason.clone() })
            }
        }
    }
}

impl<'a, S: System> World<'a, S> {
    /// The name with two addresses.
    ///
    /// # Errors
    /// `Unavailable` if workers cannot resolve it, or the machine does not have the addresses.
    pub(super) fn pair(&self) -> Result<&'a Pair, SystemError> {
        let unavailable = |why| SystemError::Unavailable { driver: "hosts", why };
        self.system.replaces_hosts().map_err(unavailable)?;
        let why = || unavailable("no port of a second loopback address can be bound".to_owned());
        self.pair.ok_or_else(why)
    }

    /// The planned worker with this number.
    pub(super) fn worker(&self, number: u32) -> &WorkerSpec {
        &self.workers[number as usize]
    }

    /// Kills a worker with SIGKILL.
    pub(super) async fn kill(&mut self, name: &str) -> Result<Exit, SystemError> {
        self.apis.set_ready(name, false);
        self.system.kill(name).await
    }

    /// Stops a worker with SIGTERM, and with SIGKILL when its grace has passed.
    pub(super) async fn terminate(&mut self, name: &str) -> Result<Stopped, SystemError> {
        self.apis.set_ready(name, false);
        let asked_us = self.recorder.now_us();
        let grace = Duration::from_millis(self.settings.shutdown_ms() + STOP_SLACK_MS);
        let exit = self.system.terminate(name, grace).await?;
        Ok(Stopped { worker: name.to_owned(), asked_us, ended_us: self.recorder.now_us(), exit })
    }

    /// Starts a worker that is not running, and waits until it is ready.
    pub(super) async fn bring_up(&mut self, spec: &WorkerSpec) -> Result<(), SystemError> {
        if self.system.is_running(&spec.name) {
            return Ok(());
        }
        self.start(spec).await?;
        self.system.wait_ready(&spec.name, READY).await?;
        self.record_worker(spec, true);
        self.apis.set_ready(&spec.name, true);
        Ok(())
    }

    /// Starts a worker and does not wait until it is ready.
    pub(super) async fn start(&mut self, spec: &WorkerSpec) -> Result<(), SystemError> {
        self.system.start(spec).await?;
        self.record_worker(spec, false);
        Ok(())
    }

    fn record_worker(&self, spec: &WorkerSpec, ready: bool) {
        let (worker, pid) = (spec.name.clone(), self.system.pid(&spec.name));
        let seen = WorkerSeen { worker, section: Section::Main, ready, pid };
        self.recorder.record(Op::Worker(seen));
    }

    /// Brings up every worker that is not running.
    pub(super) async fn bring_all_up(&mut self) -> Result<(), SystemError> {
        for spec in self.workers {
            self.bring_up(spec).await?;
        }
        Ok(())
    }
}
