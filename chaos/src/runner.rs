//! The runner: the only control flow of a run.
//!
//! It orders the phases: start, baseline, storm, heal, drain, final reads. A driver runs the
//! workers (`system`), and the checkers judge the history. Each phase has a limit, so that each run
//! ends.

mod bound;
mod drain;
mod error;
mod limits;
mod logs;
mod probes;
mod progress;
mod receivers;
mod sessions;
mod storm;
mod usage;
mod warnings;
mod workers;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::audit::Audits;
use crate::environment::{RunEnvironment, Server};
use crate::history::History;
use crate::history::op::{Op, Phase, Section, WorkerSeen};
use crate::links::Links;
use crate::nemesis::Schedule;
use crate::nemesis::{self, World};
use crate::pair::Pair;
use crate::plan::PlannedEvent;
use crate::profile::Settings;
use crate::recorder::Recorder;
use crate::switch::ReceiverSwitch;
use crate::system::System;
use crate::workload::Workload;
pub use error::RunError;
use probes::Probes;
use progress::begin_phase;
use receivers::Receivers;
use sessions::Counts;
use usage::Samples;
use warnings::Warnings;
use workers::Workers;

/// The result of a run.
#[derive(Debug)]
pub struct RunResult {
    /// The observations of the run.
    pub history: History,
    /// The reason why the history has no audit; `None` if it has one.
    pub audit_missing: Option<String>,
}

/// Runs the schedule on the system. It stops the system in all cases.
///
/// # Errors
/// Returns an error if the system or the machine fails: such a run does not judge the dispatcher.
pub async fn run<S: System>(
    system: &mut S,
    schedule: &Schedule,
    environment: &mut RunEnvironment,
) -> Result<RunResult, RunError> {
    let recorder = Recorder::create(&environment.dir.join("history.jsonl"))
        .map_err(RunError::io("creating the history"))?;
    let mut links = Links::new(schedule.needs_links());
    let receivers = Receivers::start(schedule, &recorder, &mut links)
        .await
        .map_err(RunError::io("starting the receivers"))?;
    let workers =
        Workers::plan(schedule, environment, links).map_err(RunError::io("opening the links"))?;
    let phases = Run::new(system, schedule, &workers, &recorder, &receivers)
        .all_phases(&environment.databases, &mut environment.server)
        .await;
    let stopped = system.stop_all().await;
    receivers.stop().await;
    let audit_missing = phases?;
    stopped.map_err(RunError::system("stopping the workers"))?;
    let specs = workers.specs().iter().map(|(_, spec)| spec);
    logs::read(specs, &recorder).map_err(RunError::io("reading the logs of the workers"))?;
    begin_phase(&recorder, Phase::End, None);
    let history = recorder.history();
    Ok(RunResult { history: history.map_err(RunError::io("writing the history"))?, audit_missing })
}

struct Run<'a, S> {
    system: &'a mut S,
    schedule: &'a Schedule,
    recorder: &'a Recorder,
    workers: &'a Workers,
    switch: &'a ReceiverSwitch,
    pair: Option<&'a Pair>,
    workloads: BTreeMap<Section, Workload>,
    settings: Settings,
}

impl<'a, S: System> Run<'a, S> {
    fn new(
        system: &'a mut S,
        schedule: &'a Schedule,
        workers: &'a Workers,
        recorder: &'a Recorder,
        receivers: &'a Receivers,
    ) -> Self {
        let ops = Arc::new(AtomicU64::new(1));
        let workload = |section: &Section| {
            let workload = Workload::new(
                recorder.clone(),
                workers.apis(*section).clone(),
                receivers.targets(),
                Arc::clone(&ops),
            );
            (*section, workload)
        };
        let workloads = workers.sections().map(workload).collect();
        Self {
            system,
            schedule,
            recorder,
            workers,
            switch: receivers.switch(),
            pair: receivers.pair(),
            workloads,
            settings: schedule.main_settings(),
        }
    }

    /// Returns the reason why the run has no audit; `None` if it has one.
    async fn all_phases(
        mut self,
        databases: &BTreeMap<Section, String>,
        server: &mut Server,
    ) -> Result<Option<String>, RunError> {
        self.start().await?;
        let specs = self.workers.specs().iter().map(|(_, spec)| spec);
        let _probes = Probes::start(specs.clone(), self.recorder);
        let _samples = Samples::start(self.recorder);
        let _warnings = Warnings::start(specs, self.recorder);
        let _counts = Counts::start(databases, self.recorder);
        // The first worker has created the schema.
        let audits = Audits::begin(databases.values(), self.recorder)
            .await
            .map_err(RunError::audit("installing the audit trigger"))?;
        let audit_missing = audits.missing().map(str::to_owned);
        if let Some(reason) = &audit_missing {
            progress::print(self.recorder, &format!("no audit: {reason}"));
        }
        self.baseline_and_storm(server).await?;
        self.heal(server).await?;
        self.drain().await;
        self.final_reads().await;
        let finished = audits.finish(self.recorder).await;
        finished.map_err(RunError::audit("reading the end of the audit"))?;
        Ok(audit_missing)
    }

    async fn start(&mut self) -> Result<(), RunError> {
        let failed = RunError::system("starting the workers");
        self.recorder.record(Op::RunStart(self.schedule.run_start()));
        for (section, spec) in self.workers.specs() {
            self.system.start(spec).await.map_err(&failed)?;
            self.record_worker(&spec.name, *section, false);
        }
        let count = self.workers.specs().len();
        let limit_s = limits::READY_MAX.as_secs();
        let line = format!("waiting until {count} workers are ready, at most {limit_s} s each");
        progress::print(self.recorder, &line);
        for (section, spec) in self.workers.specs() {
            let ready = self.system.wait_ready(&spec.name, limits::READY_MAX).await;
            ready.map_err(&failed)?;
            self.record_worker(&spec.name, *section, true);
            self.workers.apis(*section).set_ready(&spec.name, true);
        }
        Ok(())
    }

    fn record_worker(&self, worker: &str, section: Section, ready: bool) {
        let (worker, pid) = (worker.to_owned(), self.system.pid(worker));
        self.recorder.record(Op::Worker(WorkerSeen { worker, section, ready, pid }));
    }

    /// One workload spans both phases: clients are posting when the storm begins.
    async fn baseline_and_storm(&mut self, server: &mut Server) -> Result<(), RunError> {
        let profile = &self.schedule.profile;
        let baseline = Duration::from_millis(profile.baseline_ms);
        let storm = Duration::from_millis(profile.storm_ms);
        if !baseline.is_zero() {
            begin_phase(self.recorder, Phase::Baseline, Some(baseline));
        }
        let (schedule, recorder, begin) = (self.schedule, self.recorder, Instant::now());
        let workloads = self.workloads.clone();
        let posts = workloads.iter().map(|(section, workload)| async move {
            let events: Vec<&PlannedEvent> = schedule.section(*section).collect();
            workload.run(&events, profile.clients, begin).await;
        });
        let end_posting = || workloads.values().for_each(Workload::end_posting);
        let posts = async {
            futures_util::future::join_all(posts).await;
        };
        let mut world = self.world(server);
        let faults = async {
            let begin = begin + baseline;
            sleep_until(begin).await;
            begin_phase(recorder, Phase::Storm, Some(storm));
            nemesis::run(&schedule.faults, &mut world, begin).await
        };
        tokio::select! {
            biased;
            ended = storm::run(schedule, recorder, posts, end_posting, faults) => {
                ended.map_err(RunError::system("running a fault"))
            }
            () = progress::print_counts(recorder, schedule) => Ok(()),
        }
    }

    async fn heal(&mut self, server: &mut Server) -> Result<(), RunError> {
        begin_phase(self.recorder, Phase::Heal, None);
        let faults = &self.schedule.faults;
        let healed = nemesis::heal_all(faults, &mut self.world(server)).await;
        healed.map_err(RunError::system("healing the faults"))
    }

    fn world<'w>(&'w mut self, server: &'w mut Server) -> World<'w, S> {
        World {
            system: &mut *self.system,
            workers: self.workers.main(),
            apis: self.workers.main_apis(),
            links: self.workers.links(),
            workload: &self.workloads[&Section::Main],
            switch: self.switch,
            recorder: self.recorder,
            settings: &self.settings,
            server,
            pair: self.pair,
        }
    }

    async fn drain(&self) {
        let bound = bound::drain(self.schedule);
        begin_phase(self.recorder, Phase::Drain, Some(bound));
        let until = Instant::now() + bound;
        let drains = self
            .workloads
            .iter()
            .map(|(section, workload)| drain::drain(self.recorder, *section, workload, until));
        let drains = futures_util::future::join_all(drains);
        tokio::select! {
            biased;
            _ = drains => {}
            () = progress::print_counts(self.recorder, self.schedule) => {}
        }
    }

    async fn final_reads(&self) {
        let limit = limits::final_reads(self.schedule);
        begin_phase(self.recorder, Phase::FinalReads, Some(limit));
        let until = Instant::now() + limit;
        for (section, workload) in &self.workloads {
            workload.read_all(*section, until).await;
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::checker::{Finding, Overall, Tier, judge};
    use crate::profile::Profile;
    use crate::saboteur::{Budget, FakeDispatcher, Misbehavior};
    use crate::seed::Seed;

    /// Runs a short schedule and returns the number of accepted events, the verdict and the
    /// findings.
    async fn run_against(misbehavior: Misbehavior) -> (usize, Overall, Vec<Finding>) {
        let profile = Profile {
            events: 6,
            storm_ms: 100,
            kills: 0,
            kills_required: 0,
            drain_slack_ms: 200,
            ..Budget::of_workers(1).profile()
        };
        let mut schedule = Schedule::generate(Seed::new(1), &profile);
        for event in &mut schedule.events {
            // With a key, a client repeats a post that has no definite answer.
            event.key = Some(format!("key-{}", event.ordinal));
            event.script.clear();
        }
        let dir = tempfile::tempdir().unwrap();
        let mut environment = RunEnvironment {
            dir: dir.path().to_owned(),
            databases: BTreeMap::new(),
            server: Server::Shared { reason: "this system has no database".to_owned() },
        };
        let mut system = FakeDispatcher::new(misbehavior);
        let result = run(&mut system, &schedule, &mut environment).await.unwrap();
        assert!(result.audit_missing.is_some());
        let accepted = |entry: &&crate::history::Entry| matches!(entry.op, Op::IngestOk(_));
        let accepted = result.history.entries().iter().filter(accepted).count();
        let findings = judge(&result.history, Tier::Real);
        (accepted, Overall::merge(&findings), findings)
    }

    fn coverage(findings: &[Finding]) -> String {
        let coverage = findings.iter().find(|f| f.checker == "coverage");
        format!("{:?}", coverage.unwrap().verdict)
    }

    // Each client once repeated each post a hundred times, for up to ten seconds each.
    #[tokio::test(flavor = "multi_thread")]
    async fn run_ends_as_unknown_if_no_post_is_accepted() {
        for posts in [Misbehavior::RefusesPosts, Misbehavior::IgnoresPosts] {
            let (accepted, overall, findings) = run_against(posts).await;
            assert_eq!((accepted, overall), (0, Overall::Unknown), "{posts:?}");
            let coverage = coverage(&findings);
            let sentence = "posting did not end within 800.0ms after the storm: 0 of 6 events";
            assert!(coverage.contains(sentence), "{posts:?}: {coverage}");
        }
    }

    // An event whose state cannot be read after the drain breaks the liveness bound.
    #[tokio::test(flavor = "multi_thread")]
    async fn run_ends_if_no_read_is_answered() {
        let (accepted, overall, _) = run_against(Misbehavior::IgnoresReads).await;
        assert_eq!((accepted, overall), (6, Overall::Stuck));
    }
}
