//! What faults are applied to, and what all of them need: the records of their life, and workers that
//! come back.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::environment::Server;
use crate::fault::{Kind, Target};
use crate::hangs::Hangs;
use crate::history::op::{
    FaultEffect, FaultEnd, FaultSkip, FaultStart, Op, PEER_CLOSED, Section, WorkerExit, WorkerSeen,
};
use crate::links::Links;
use crate::postgres::OwnServer;
use crate::profile::Settings;
use crate::recorder::Recorder;
use crate::system::{Exit, System, SystemError, WorkerSpec};
use crate::workload::{Apis, Workload};

/// How long the receivers may take to notice that a sender is gone.
const NOTICE: Duration = Duration::from_secs(1);
/// How long a restarted worker may take until it is ready.
const READY: Duration = Duration::from_secs(60);

/// What faults are applied to.
#[derive(Debug)]
pub struct World<'a, S> {
    /// The workers' driver.
    pub system: &'a mut S,
    /// The workers of the main section.
    pub workers: &'a [WorkerSpec],
    /// Their APIs.
    pub apis: &'a Apis,
    /// The ways between the parts.
    pub links: &'a Links,
    /// What posts to them.
    pub workload: &'a Workload,
    /// The receivers that hang.
    pub hangs: &'a Hangs,
    /// The history.
    pub recorder: &'a Recorder,
    /// What the workers run with.
    pub settings: &'a Settings,
    /// The Postgres server of the main section.
    pub server: &'a mut Server,
}

/// A fault that was requested.
pub(super) struct Begun {
    pub(super) fault: u64,
    /// When, in microseconds.
    pub(super) start_us: u64,
    /// The requests that were open then, with their begin.
    open: BTreeMap<String, u64>,
}

impl<S> World<'_, S> {
    /// Records that a fault of the plan is not applied.
    pub(super) fn skip(&self, name: &str, why: String) {
        let f = name.to_owned();
        self.recorder.record(Op::FaultSkip(FaultSkip { f, why }));
    }

    /// Records that a fault is requested, with what is open at the receivers.
    pub(super) fn begin(&self, fault: u64, kind: &Kind, target: Target) -> Begun {
        let open = self.recorder.open_requests();
        let start = FaultStart {
            why: format!("{} requests are open", open.len()),
            open: open.keys().cloned().collect(),
            ..FaultStart::new(fault, kind, target)
        };
        let start_us = self.recorder.record(Op::FaultStart(start));
        Begun {
            fault,
            start_us,
            open,
        }
    }

    /// Records what a fault did. What was not observed is no effect.
    pub(super) fn effect(
        &self,
        begun: &Begun,
        effective_us: u64,
        hit: Vec<String>,
        observed: Option<String>,
    ) {
        self.recorder.record(Op::FaultEffect(FaultEffect {
            fault: begun.fault,
            effective_us,
            hit,
            observed,
        }));
    }

    /// Records that a fault is healed.
    pub(super) fn end(&self, begun: &Begun) {
        let fault = begun.fault;
        self.recorder.record(Op::FaultEnd(FaultEnd { fault }));
    }

    /// Those of the requests open at the begin whose sender went away since: the others belong to
    /// another worker.
    pub(super) async fn went_away(&self, begun: &Begun) -> Vec<String> {
        let until = Instant::now() + NOTICE;
        let mut changed = self.recorder.changed();
        // Wakes at each line of the history and stops when all have ended or the time is over.
        while self.recorder.endings(&begun.open, begun.start_us).len() < begun.open.len() {
            if timeout_at(until, changed.changed()).await.is_err() {
                break;
            }
        }
        let gone = |how: &str| how == PEER_CLOSED || how == "hung_until_peer_closed";
        // An attempt of a living worker that runs into its deadline looks the same, but for its age.
        // Nine tenths: the deadline began before the request arrived.
        let deadline_us = self.settings.http_timeout_ms * 900;
        let early = |req: &str, end_us: u64| {
            let begin = begun.open.get(req);
            begin.is_some_and(|begin| end_us.saturating_sub(*begin) < deadline_us)
        };
        let endings = self.recorder.endings(&begun.open, begun.start_us);
        endings
            .into_iter()
            .filter(|(req, how, end_us)| gone(how) && early(req, *end_us))
            .map(|(req, ..)| req)
            .collect()
    }
}

impl<S> World<'_, S> {
    /// Every worker of the main section.
    pub(super) fn all_workers(&self) -> Target {
        Target::Workers((0..).take(self.workers.len()).collect())
    }

    /// The server of this run, if faults may stop it.
    pub(super) fn own_server(&mut self) -> Result<&mut OwnServer, SystemError> {
        match self.server {
            Server::Own(own) => Ok(own),
            Server::Shared { reason } => Err(SystemError::Unavailable {
                driver: "postgres",
                why: reason.clone(),
            }),
        }
    }
}

impl<S: System> World<'_, S> {
    /// The planned worker of this number.
    pub(super) fn worker(&self, number: u32) -> &WorkerSpec {
        &self.workers[number as usize]
    }

    /// SIGKILL.
    pub(super) async fn kill(&mut self, name: &str) -> Result<Exit, SystemError> {
        self.apis.set_ready(name, false);
        self.system.kill(name).await
    }

    /// SIGTERM, then SIGKILL when the grace is over; how it ended goes into the history.
    pub(super) async fn terminate(
        &mut self,
        name: &str,
        fault: u64,
        grace: Duration,
    ) -> Result<Exit, SystemError> {
        self.apis.set_ready(name, false);
        let asked_us = self.recorder.now_us();
        let exit = self.system.terminate(name, grace).await?;
        self.recorder.record(Op::WorkerExit(WorkerExit {
            worker: name.to_owned(),
            fault,
            asked_us,
            code: exit.code,
            signal: exit.signal,
            forced: exit.forced,
        }));
        Ok(exit)
    }

    /// Starts a worker that is not running, and waits until it is ready.
    pub(super) async fn bring_up(&mut self, spec: &WorkerSpec) -> Result<(), SystemError> {
        if self.system.is_running(&spec.name) {
            return Ok(());
        }
        self.start(spec).await?;
        self.system.wait_ready(&spec.name, READY).await?;
        self.recorder.record(seen(spec, true));
        self.apis.set_ready(&spec.name, true);
        Ok(())
    }

    /// Starts a worker and waits for nothing.
    pub(super) async fn start(&mut self, spec: &WorkerSpec) -> Result<(), SystemError> {
        self.system.start(spec).await?;
        self.recorder.record(seen(spec, false));
        Ok(())
    }

    /// Brings up every worker that is not running.
    pub(super) async fn bring_all_up(&mut self) -> Result<(), SystemError> {
        for spec in self.workers {
            self.bring_up(spec).await?;
        }
        Ok(())
    }
}

fn seen(spec: &WorkerSpec, ready: bool) -> Op {
    Op::Worker(WorkerSeen {
        worker: spec.name.clone(),
        section: Section::Main,
        ready,
    })
}
