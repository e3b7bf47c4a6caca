//! The runner: the one control flow of a run. Start, baseline, storm, heal, drain, final reads, history.
//!
//! It alone orders the phases. It knows nothing of how a worker is run (that is the system's), and it
//! judges nothing (that is the checkers').

mod bound;
mod drain;
mod logs;
mod receivers;
mod workers;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::time::{Instant, interval, sleep_until};

use crate::audit::{AuditError, Audits};
use crate::hangs::Hangs;
use crate::history::History;
use crate::history::op::{Op, Phase, PhaseBegin, Section, WorkerSeen};
use crate::links::Links;
use crate::nemesis::{self, World};
use crate::postgres::OwnServer;
use crate::recorder::Recorder;
use crate::schedule::{PlannedEvent, Schedule};
use crate::system::{System, SystemError};
use crate::workload::Workload;
use receivers::Receivers;
use workers::Workers;

/// How long the first start of a worker may take until it is ready (it migrates the database).
const READY: Duration = Duration::from_secs(60);
/// How often progress is told.
const PROGRESS: Duration = Duration::from_secs(5);

/// Where a run takes place.
#[derive(Debug)]
pub struct Site {
    /// The directory of the run; it exists.
    pub dir: PathBuf,
    /// The database of each section; a system without one leaves it out.
    pub databases: BTreeMap<Section, String>,
    /// The server of the main section, when it is the run's own and faults may take it down; or why not.
    pub own_server: Result<OwnServer, String>,
}

/// Why there is no verdict to be had.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The system did not do what the harness asked.
    #[error("{doing}")]
    System {
        /// What was asked.
        doing: &'static str,
        /// Its answer.
        source: SystemError,
    },
    /// What the store committed could not be read.
    #[error("{doing}")]
    Audit {
        /// What was being done.
        doing: &'static str,
        /// Its answer.
        source: AuditError,
    },
    /// The machine did not.
    #[error("{doing}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// Its answer.
        source: io::Error,
    },
}

/// Runs the schedule on the system and gives the history. Whatever happens, the system is stopped.
///
/// # Errors
/// When system or machine fail the harness: that is no verdict on the dispatcher.
pub async fn run<S: System>(
    system: &mut S,
    schedule: &Schedule,
    site: &mut Site,
) -> Result<History, RunError> {
    let recorder =
        Recorder::create(&site.dir.join("history.jsonl")).map_err(|source| RunError::Io {
            doing: "creating the history",
            source,
        })?;
    let mut links = Links::new(schedule.needs_links());
    let receivers = Receivers::start(schedule, &recorder, &mut links)
        .await
        .map_err(|source| RunError::Io {
            doing: "starting the receivers",
            source,
        })?;
    let workers = Workers::plan(schedule, site, links).map_err(|source| RunError::Io {
        doing: "laying the links",
        source,
    })?;
    let ran = Run::new(system, schedule, &workers, &recorder, &receivers)
        .whole(&site.databases, &mut site.own_server)
        .await;
    let stopped = system.stop_all().await;
    receivers.stop().await;
    ran?;
    stopped.map_err(|source| RunError::System {
        doing: "stopping the workers",
        source,
    })?;
    let specs = workers.specs().iter().map(|(_, spec)| spec);
    logs::read(specs, &recorder).map_err(|source| RunError::Io {
        doing: "reading the workers' logs",
        source,
    })?;
    recorder.record(phase(Phase::End, None));
    recorder.history().map_err(|source| RunError::Io {
        doing: "writing the history",
        source,
    })
}

struct Run<'a, S> {
    system: &'a mut S,
    schedule: &'a Schedule,
    recorder: &'a Recorder,
    workers: &'a Workers,
    hangs: &'a Hangs,
    workloads: BTreeMap<Section, Workload>,
}

impl<'a, S: System> Run<'a, S> {
    fn new(
        system: &'a mut S,
        schedule: &'a Schedule,
        workers: &'a Workers,
        recorder: &'a Recorder,
        receivers: &'a Receivers,
    ) -> Run<'a, S> {
        let ops = Arc::new(AtomicU64::new(1));
        let workload = |section: &Section| {
            let (apis, targets) = (workers.apis(*section), receivers.targets());
            (
                *section,
                Workload::new(recorder.clone(), apis, targets, Arc::clone(&ops)),
            )
        };
        let workloads = workers.sections().map(workload).collect();
        Run {
            system,
            schedule,
            recorder,
            workers,
            hangs: receivers.hangs(),
            workloads,
        }
    }

    async fn whole(
        mut self,
        databases: &BTreeMap<Section, String>,
        own_server: &mut Result<OwnServer, String>,
    ) -> Result<(), RunError> {
        self.start().await?;
        let audits = self.begin_audits(databases).await?;
        self.baseline_and_storm(own_server).await?;
        self.heal(own_server).await?;
        self.drain().await;
        self.final_reads().await;
        self.end_audits(audits).await
    }

    /// After the workers are ready: one of them has made the schema.
    async fn begin_audits(
        &self,
        databases: &BTreeMap<Section, String>,
    ) -> Result<Audits, RunError> {
        let doing = "installing the audit trigger";
        let audits = Audits::begin(databases.values(), self.recorder).await;
        audits.map_err(|source| RunError::Audit { doing, source })
    }

    async fn end_audits(&self, audits: Audits) -> Result<(), RunError> {
        let doing = "reading what the store committed";
        let ended = audits.finish(self.recorder).await;
        ended.map_err(|source| RunError::Audit { doing, source })
    }

    async fn start(&mut self) -> Result<(), RunError> {
        let doing = "starting the workers";
        let failed = |source| RunError::System { doing, source };
        self.recorder
            .record(Op::RunStart(self.schedule.run_start()));
        for (section, spec) in self.workers.specs() {
            self.system.start(spec).await.map_err(failed)?;
            self.recorder.record(seen(&spec.name, *section, false));
        }
        for (section, spec) in self.workers.specs() {
            self.system
                .wait_ready(&spec.name, READY)
                .await
                .map_err(failed)?;
            self.recorder.record(seen(&spec.name, *section, true));
            self.workers.apis(*section).set_ready(&spec.name, true);
        }
        Ok(())
    }

    /// One workload over both: the storm begins while events are being posted.
    async fn baseline_and_storm(
        &mut self,
        postgres: &mut Result<OwnServer, String>,
    ) -> Result<(), RunError> {
        let baseline_ms = self.schedule.profile.baseline_ms;
        if baseline_ms > 0 {
            let bound_us = Some(baseline_ms * 1_000);
            self.recorder.record(phase(Phase::Baseline, bound_us));
        }
        let (schedule, recorder, begin) = (self.schedule, self.recorder, Instant::now());
        let events = |section| schedule.section(section).collect::<Vec<&PlannedEvent>>();
        let posts = self.workloads.iter().map(|(section, workload)| {
            let events = events(*section);
            async move { workload.run(&events, schedule.profile.clients, begin).await }
        });
        let posts = futures_util::future::join_all(posts);
        let settings = schedule.profile.main_settings();
        let mut world = World {
            system: &mut *self.system,
            workers: self.workers.main(),
            apis: &self.workers.apis(Section::Main),
            links: self.workers.links(),
            workload: &self.workloads[&Section::Main],
            hangs: self.hangs,
            recorder,
            settings: &settings,
            postgres,
        };
        let storm = async {
            let begin = begin + Duration::from_millis(baseline_ms);
            sleep_until(begin).await;
            let storm_us = schedule.profile.storm_ms * 1_000;
            recorder.record(phase(Phase::Storm, Some(storm_us)));
            nemesis::run(&schedule.faults, &mut world, begin).await
        };
        let both = async { tokio::join!(posts, storm).1 };
        tokio::select! {
            biased;
            faults = both => {
                faults.map_err(|source| RunError::System { doing: "applying a fault", source })
            }
            () = tell_progress(recorder, schedule) => Ok(()),
        }
    }

    async fn heal(&mut self, postgres: &mut Result<OwnServer, String>) -> Result<(), RunError> {
        self.recorder.record(phase(Phase::Heal, None));
        let mut world = World {
            system: &mut *self.system,
            workers: self.workers.main(),
            apis: &self.workers.apis(Section::Main),
            links: self.workers.links(),
            workload: &self.workloads[&Section::Main],
            hangs: self.hangs,
            recorder: self.recorder,
            settings: &self.schedule.profile.main_settings(),
            postgres,
        };
        nemesis::heal_all(&self.schedule.faults, &mut world)
            .await
            .map_err(|source| RunError::System {
                doing: "healing",
                source,
            })
    }

    async fn drain(&self) {
        let bound = bound::drain(self.schedule);
        let bound_us = u64::try_from(bound.as_micros()).unwrap_or(u64::MAX);
        self.recorder.record(phase(Phase::Drain, Some(bound_us)));
        let until = Instant::now() + bound;
        let drains = self
            .workloads
            .iter()
            .map(|(section, workload)| drain::drain(self.recorder, *section, workload, until));
        let drains = futures_util::future::join_all(drains);
        tokio::select! {
            biased;
            _ = drains => {}
            () = tell_progress(self.recorder, self.schedule) => {}
        }
    }

    async fn final_reads(&self) {
        self.recorder.record(phase(Phase::FinalReads, None));
        for (section, workload) in &self.workloads {
            workload.read_all(*section).await;
        }
    }
}

/// Tells on stderr how far the run has come, until it is dropped.
async fn tell_progress(recorder: &Recorder, schedule: &Schedule) {
    let mut ticks = interval(PROGRESS);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let (accepted, taken) = recorder.progress();
        let seconds = recorder.now_us() / 1_000_000;
        let open = recorder.open_requests().len();
        let planned = schedule.posts();
        eprintln!(
            "{seconds:>4} s: {accepted} of {planned} accepted, {taken} received, {open} requests open"
        );
    }
}

fn phase(phase: Phase, bound_us: Option<u64>) -> Op {
    Op::Phase(PhaseBegin { phase, bound_us })
}

fn seen(worker: &str, section: Section, ready: bool) -> Op {
    Op::Worker(WorkerSeen {
        worker: worker.to_owned(),
        section,
        ready,
    })
}
