//! Follows the audits of a run and writes their transitions to the history.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::reader::{Audit, AuditError, Installation};
use crate::history::op::Op;
use crate::history::transition::Census;
use crate::recorder::Recorder;

/// Interval between two readings, in milliseconds.
const READ_INTERVAL_MS: u64 = 500;
/// Maximum delay of a transition in the history while Postgres answers, in microseconds: one
/// interval until it is read, and one until it is written.
pub const LATE_US_MAX: u64 = 2 * READ_INTERVAL_MS * 1_000;
/// Number of final readings that may fail before the run has no verdict.
const FINAL_READS_MAX: u32 = 5;

/// The audits of a run: one follower per database, or the reason why there is none.
#[derive(Debug)]
pub struct Audits {
    followers: Vec<Follower>,
    missing: Option<String>,
}

impl Audits {
    /// Installs the trigger in each database and follows it.
    ///
    /// If one database does not allow it, the run has no audit: the audit checkers count all
    /// events.
    ///
    /// # Errors
    /// Returns the errors of [`Audit::install`].
    pub async fn begin<'u>(
        urls: impl Iterator<Item = &'u String>,
        recorder: &Recorder,
    ) -> Result<Self, AuditError> {
        let mut audits = Vec::new();
        let mut missing = None;
        for url in urls {
            match Audit::install(url).await? {
                Installation::Installed(audit) => audits.push(audit),
                Installation::NotPossible { reason } => missing = Some(reason),
            }
        }
        if audits.is_empty() && missing.is_none() {
            missing = Some("the system has no database".to_owned());
        }
        if missing.is_some() {
            audits.clear();
        }
        let followers = audits.into_iter();
        let followers = followers.map(|audit| Follower::start(audit, recorder));
        Ok(Self { followers: followers.collect(), missing })
    }

    /// Returns the reason why this run has no audit; `None` if it has one.
    pub fn missing(&self) -> Option<&str> {
        self.missing.as_deref()
    }

    /// Writes the remaining transitions of each database, and one count of all events.
    ///
    /// # Errors
    /// Returns an error if a database does not answer.
    pub async fn finish(self, recorder: &Recorder) -> Result<(), AuditError> {
        if self.followers.is_empty() {
            return Ok(());
        }
        let mut all = Census::default();
        for follower in self.followers {
            let census = follower.finish().await?;
            all.rows += census.rows;
            all.pending += census.pending;
            all.leased += census.leased;
            all.delivered += census.delivered;
            all.dead += census.dead;
        }
        recorder.record(Op::Census(all));
        Ok(())
    }
}

/// A task that writes the audit of one database to the history.
#[derive(Debug)]
struct Follower {
    recorder: Recorder,
    stop: CancellationToken,
    /// Returns the reader and the transitions that are read but not written.
    task: JoinHandle<(Audit, Vec<Op>)>,
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Follower {
    fn start(audit: Audit, recorder: &Recorder) -> Self {
        let stop = CancellationToken::new();
        let task = tokio::spawn(follow(audit, recorder.clone(), stop.clone()));
        Self { recorder: recorder.clone(), stop, task }
    }

    /// Writes the remaining transitions and returns the final count of events.
    ///
    /// # Errors
    /// Returns an error if Postgres does not answer. All faults are healed then.
    async fn finish(mut self) -> Result<Census, AuditError> {
        self.stop.cancel();
        let (mut audit, held_back) =
            (&mut self.task).await.expect("the task does not panic, and only `drop` aborts it");
        record(&self.recorder, held_back);
        let mut reads = 1;
        let (rest, census) = loop {
            match audit.census().await {
                Ok(read) => break read,
                Err(_) if reads < FINAL_READS_MAX => reads += 1,
                Err(error) => return Err(error),
            }
        };
        record(&self.recorder, rest);
        Ok(census)
    }
}

async fn follow(mut audit: Audit, recorder: Recorder, stop: CancellationToken) -> (Audit, Vec<Op>) {
    let mut ticks = interval(Duration::from_millis(READ_INTERVAL_MS));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut held_back = Vec::new();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return (audit, held_back),
            _ = ticks.tick() => {}
        }
        let new = tokio::select! {
            biased;
            () = stop.cancelled() => return (audit, held_back),
            // A fault may have stopped Postgres. The next reading returns the same transitions.
            new = audit.read() => new.unwrap_or_default(),
        };
        record(&recorder, std::mem::replace(&mut held_back, new));
    }
}

fn record(recorder: &Recorder, ops: Vec<Op>) {
    for op in ops {
        recorder.record(op);
    }
}
