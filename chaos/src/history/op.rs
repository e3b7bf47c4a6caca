//! The ops of a history: one enum with a struct for each kind of observation.
//!
//! A post ends as `ok` only with a complete 202, and as `fail` only if the contract excludes that
//! anything was stored. Every other post ends as `info` and stays open.

mod done;
mod received;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::transition::{Census, Fenced, Step, Transition};
use crate::fault::PlannedKind;
use crate::profile::Settings;
use crate::seed::Seed;

pub use crate::plan::Section;
pub use done::{
    ClockWarning, FaultEffect, FaultEnd, FaultSkip, FaultStart, Readiness, Sessions, Usage,
    WorkerExit, WorkerLog, WorkerSeen,
};
pub use received::{
    ANSWERED, ANSWERED_THEN_RESET, PEER_CLOSED, RecvBegin, RecvEnd, SIG_UNCHECKED, SIG_VALID,
    Scripted,
};

/// One observation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "e")]
pub enum Op {
    /// The run began. States the parts of the plan that checkers need.
    #[serde(rename = "run.start")]
    RunStart(RunStart),
    /// A phase began.
    #[serde(rename = "phase")]
    Phase(PhaseBegin),
    /// A part of the run was cut off because its bound had passed.
    #[serde(rename = "bound.reached")]
    BoundReached(BoundReached),
    /// A worker was started or is ready.
    #[serde(rename = "worker")]
    Worker(WorkerSeen),
    /// The response of a worker to `GET /readyz` differs from the one before.
    #[serde(rename = "worker.readiness")]
    Readiness(Readiness),
    /// A worker warned that the clocks differ.
    #[serde(rename = "worker.clock_warning")]
    ClockWarning(ClockWarning),
    /// The number of database sessions of the workers differs from the one before.
    #[serde(rename = "worker.sessions")]
    Sessions(Sessions),
    /// The resources of the process of a worker differ from those before.
    #[serde(rename = "worker.usage")]
    Usage(Usage),
    /// A worker that was stopped has exited.
    #[serde(rename = "worker.exit")]
    WorkerExit(WorkerExit),
    /// Panics and errors in the log of a worker.
    #[serde(rename = "worker.log")]
    WorkerLog(WorkerLog),
    /// A client posts an event.
    #[serde(rename = "ingest.invoke")]
    IngestInvoke(Invoke),
    /// A client got a complete 202.
    #[serde(rename = "ingest.ok")]
    IngestOk(Acknowledged),
    /// A post failed for certain: nothing was stored.
    #[serde(rename = "ingest.fail")]
    IngestFail(NotAcknowledged),
    /// A post ended without proof whether the event was stored.
    #[serde(rename = "ingest.info")]
    IngestInfo(NotAcknowledged),
    /// A health request of a client ended.
    #[serde(rename = "health")]
    Health(Health),
    /// A request began at a receiver.
    #[serde(rename = "recv.begin")]
    RecvBegin(RecvBegin),
    /// A request ended at a receiver.
    #[serde(rename = "recv.end")]
    RecvEnd(RecvEnd),
    /// A fault was requested.
    #[serde(rename = "fault.start")]
    FaultStart(FaultStart),
    /// The effect of a fault was observed, or its absence.
    #[serde(rename = "fault.effect")]
    FaultEffect(FaultEffect),
    /// A fault was healed.
    #[serde(rename = "fault.end")]
    FaultEnd(FaultEnd),
    /// A fault of the plan was not applied.
    #[serde(rename = "fault.skip")]
    FaultSkip(FaultSkip),
    /// The response of `GET /events/{id}` in the final reads.
    #[serde(rename = "state")]
    State(State),
    /// The store committed a new event.
    #[serde(rename = "accept")]
    Accept(Transition),
    /// The store committed a claim.
    #[serde(rename = "claim")]
    Claim(Transition),
    /// The store committed the outcome of an attempt.
    #[serde(rename = "settle")]
    Settle(Transition),
    /// The store committed the return of a claim without an attempt.
    #[serde(rename = "release")]
    Release(Transition),
    /// The store committed the end of a lease by another worker.
    #[serde(rename = "reclaim")]
    Reclaim(Transition),
    /// The store committed the cancellation of an event.
    #[serde(rename = "cancel")]
    Cancel(Transition),
    /// The store committed a new round of an event.
    #[serde(rename = "replay")]
    Replay(Transition),
    /// The store refused a settle or release with a stale token.
    #[serde(rename = "fenced")]
    Fenced(Fenced),
    /// The rows of the store were counted.
    #[serde(rename = "census")]
    Census(Census),
}

/// Source of transitions that an audit trigger wrote.
pub const PG_AUDIT: &str = "pg.audit";
/// Source of transitions of the model in the simulation.
pub const SIM: &str = "sim";

impl Op {
    /// Returns the observer of such an op.
    pub const fn source(&self) -> &'static str {
        match self {
            Op::RunStart(_) | Op::Phase(_) | Op::BoundReached(_) => "run",
            Op::Worker(_)
            | Op::Readiness(_)
            | Op::ClockWarning(_)
            | Op::Sessions(_)
            | Op::Usage(_)
            | Op::WorkerExit(_)
            | Op::WorkerLog(_) => "worker",
            Op::IngestInvoke(_)
            | Op::IngestOk(_)
            | Op::IngestFail(_)
            | Op::IngestInfo(_)
            | Op::Health(_)
            | Op::State(_) => "client",
            Op::RecvBegin(_) | Op::RecvEnd(_) => "recv",
            Op::FaultStart(_) | Op::FaultEffect(_) | Op::FaultEnd(_) | Op::FaultSkip(_) => "fault",
            Op::Accept(_)
            | Op::Claim(_)
            | Op::Settle(_)
            | Op::Release(_)
            | Op::Reclaim(_)
            | Op::Cancel(_)
            | Op::Replay(_)
            | Op::Fenced(_)
            | Op::Census(_) => PG_AUDIT,
        }
    }
}

impl Op {
    /// Returns the transition that the store committed, if this op is one.
    pub const fn transition(&self) -> Option<(Step, &Transition)> {
        Some(match self {
            Self::Accept(transition) => (Step::Accept, transition),
            Self::Claim(transition) => (Step::Claim, transition),
            Self::Settle(transition) => (Step::Settle, transition),
            Self::Release(transition) => (Step::Release, transition),
            Self::Reclaim(transition) => (Step::Reclaim, transition),
            Self::Cancel(transition) => (Step::Cancel, transition),
            Self::Replay(transition) => (Step::Replay, transition),
            _ => return None,
        })
    }

    /// The op of a committed transition.
    pub const fn of_transition(step: Step, transition: Transition) -> Self {
        match step {
            Step::Accept => Self::Accept(transition),
            Step::Claim => Self::Claim(transition),
            Step::Settle => Self::Settle(transition),
            Step::Release => Self::Release(transition),
            Step::Reclaim => Self::Reclaim(transition),
            Step::Cancel => Self::Cancel(transition),
            Step::Replay => Self::Replay(transition),
        }
    }
}

/// The parts of the plan that checkers need.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunStart {
    /// Seed of the run.
    pub seed: Seed,
    /// Name of the profile.
    pub profile: String,
    /// SHA-256 of the text of the schedule.
    pub schedule_sha256: String,
    /// Settings of each section of the run.
    pub sections: BTreeMap<Section, Settings>,
    /// Number of kills that must hit an open request.
    pub kills_required: u32,
    /// Faults of each kind in the plan, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub faults_planned: BTreeMap<String, PlannedKind>,
    /// Reason of each event that must die, by ordinal.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", with = "pairs")]
    pub deaths: BTreeMap<u64, String>,
    /// True if the plan has failing responses.
    pub failures_planned: bool,
    /// True if the plan has hangs.
    pub hangs_planned: bool,
}

/// A map with integer keys as a list of pairs, because serde reads keys in a tagged op as strings.
mod pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        map: &BTreeMap<u64, String>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_seq(map)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<BTreeMap<u64, String>, D::Error> {
        Vec::deserialize(from).map(|pairs| pairs.into_iter().collect())
    }
}

/// The phases of a run, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Events are posted without faults.
    Baseline,
    /// Events are posted and faults are injected.
    Storm,
    /// Every fault is healed, and no further one starts.
    Heal,
    /// The accepted events are delivered.
    Drain,
    /// The drain has ended: every event is final, or its bound has passed.
    FinalReads,
    /// The end of the history.
    End,
}

/// A phase began.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PhaseBegin {
    /// The phase.
    pub phase: Phase,
    /// Bound of the phase in microseconds, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound_us: Option<u64>,
}

/// A part of the run was cut off because its bound had passed. The run cannot pass then.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BoundReached {
    /// The bound, in microseconds.
    pub bound_us: u64,
    /// The events or faults that the run waited for, in one sentence.
    pub unfinished: String,
}

/// A client posts an event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Invoke {
    /// Number of the post, unique in the run.
    pub op: u64,
    /// Ordinal of the planned event.
    pub ordinal: u64,
    /// Section of the event.
    pub section: Section,
    /// Idempotency key.
    pub key: Option<String>,
    /// SHA-256 of the exact bytes of the payload, in hex.
    pub sha256: String,
    /// Length of the payload in bytes.
    pub bytes: usize,
    /// Target URL.
    pub target: String,
    /// Name of the worker whose API gets the post.
    pub via: String,
    /// Number of body bytes that are sent if the client interrupts the post.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut_at: Option<usize>,
}

/// A client got a complete 202.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Acknowledged {
    /// Number of the post.
    pub op: u64,
    /// Ordinal of the planned event.
    pub ordinal: u64,
    /// Id of the event in the response.
    pub id: String,
}

/// A post that ended without a 202.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NotAcknowledged {
    /// Number of the post.
    pub op: u64,
    /// Ordinal of the planned event.
    pub ordinal: u64,
    /// Status of the response, if it was complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The observation of the client.
    pub why: String,
}

/// A health request ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Health {
    /// Name of the worker whose API got the request.
    pub via: String,
    /// The path, such as `/livez`.
    pub path: String,
    /// Status of the response, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
}

/// The response of `GET /events/{id}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Ordinal of the planned event.
    pub ordinal: u64,
    /// Id of the event.
    pub id: String,
    /// Status of the response, or 0 if there was none.
    pub http: u16,
    /// `pending`, `delivered` or `dead`.
    pub status: Option<String>,
    /// Reason of a dead event.
    pub reason: Option<String>,
    /// Claims minus releases.
    pub attempt_count: Option<u32>,
    /// The listed attempts.
    pub attempts: Vec<AttemptSeen>,
}

impl State {
    /// The state of an event that was not read.
    pub fn unread(ordinal: u64, id: &str) -> State {
        State {
            ordinal,
            id: id.to_owned(),
            http: 0,
            status: None,
            reason: None,
            attempt_count: None,
            attempts: Vec::new(),
        }
    }

    /// Returns true if the event is delivered, dead, or unknown to the dispatcher.
    pub fn is_final(&self) -> bool {
        self.http == 404 || matches!(self.status.as_deref(), Some("delivered" | "dead"))
    }
}

/// One listed attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttemptSeen {
    /// Number of the attempt, from 1.
    pub number: u32,
    /// Outcome of the attempt.
    pub outcome: String,
    /// Status of the response.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_code: Option<u16>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complete_2xx_is_a_success() {
        let success = |status| {
            let end = RecvEnd { req: String::new(), ordinal: None, status, how: ANSWERED.into() };
            end.is_success()
        };
        assert_eq!([200, 299].map(|status| success(Some(status))), [true; 2]);
        assert_eq!([199, 300].map(|status| success(Some(status))), [false; 2]);
        assert!(!success(None));
    }

    #[test]
    fn delivered_dead_and_unknown_events_are_final() {
        let read = |http, status: Option<&str>| {
            let status = status.map(str::to_owned);
            let state = State { http, status, ..State::unread(3, "e") };
            assert_eq!((state.ordinal, &*state.id), (3, "e"));
            state.is_final()
        };
        assert!(read(200, Some("delivered")));
        assert!(read(200, Some("dead")));
        assert!(read(404, None));
        assert!(!read(200, Some("pending")));
        assert!(!read(0, None));
    }
}
