//! The ops: what a line of the history can say.
//!
//! Client ops follow the definite/indefinite rule: `fail` only where the contract makes it certain that
//! nothing was stored, `ok` only with a whole 202, and everything else is `info`, which stays open.

mod done;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::transition::{Census, Fenced, Transition};
use crate::fault::PlannedKind;
use crate::profile::Settings;
use crate::seed::Seed;

pub use done::{FaultEffect, FaultEnd, FaultSkip, FaultStart, WorkerExit, WorkerLog, WorkerSeen};

/// One observation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "e")]
pub enum Op {
    /// The run began; what the checkers need to know of its plan.
    #[serde(rename = "run.start")]
    RunStart(RunStart),
    /// A phase began.
    #[serde(rename = "phase")]
    Phase(PhaseBegin),
    /// A part of the run was cut off because its bound had passed.
    #[serde(rename = "bound.reached")]
    BoundReached(BoundReached),
    /// A worker was started, or answered that it is ready.
    #[serde(rename = "worker")]
    Worker(WorkerSeen),
    /// A worker that was asked to stop has ended.
    #[serde(rename = "worker.exit")]
    WorkerExit(WorkerExit),
    /// What a worker's log holds that it must not.
    #[serde(rename = "worker.log")]
    WorkerLog(WorkerLog),
    /// A client sends an event.
    #[serde(rename = "ingest.invoke")]
    IngestInvoke(Invoke),
    /// A client holds a whole 202.
    #[serde(rename = "ingest.ok")]
    IngestOk(Acknowledged),
    /// Certainly nothing was stored.
    #[serde(rename = "ingest.fail")]
    IngestFail(NotAcknowledged),
    /// Nobody can say whether the event was stored.
    #[serde(rename = "ingest.info")]
    IngestInfo(NotAcknowledged),
    /// A request arrived at a receiver.
    #[serde(rename = "recv.begin")]
    RecvBegin(RecvBegin),
    /// A request ended at a receiver.
    #[serde(rename = "recv.end")]
    RecvEnd(RecvEnd),
    /// A fault was requested.
    #[serde(rename = "fault.start")]
    FaultStart(FaultStart),
    /// A fault took effect, or was seen to have none.
    #[serde(rename = "fault.effect")]
    FaultEffect(FaultEffect),
    /// A fault was healed.
    #[serde(rename = "fault.end")]
    FaultEnd(FaultEnd),
    /// A fault of the plan was not applied.
    #[serde(rename = "fault.skip")]
    FaultSkip(FaultSkip),
    /// What `GET /events/{id}` said in the final reads.
    #[serde(rename = "state")]
    State(State),
    /// The store committed a new event.
    #[serde(rename = "accept")]
    Accept(Transition),
    /// The store committed a claim.
    #[serde(rename = "claim")]
    Claim(Transition),
    /// The store committed the end of an attempt.
    #[serde(rename = "settle")]
    Settle(Transition),
    /// The store committed that a claim went back unsent.
    #[serde(rename = "release")]
    Release(Transition),
    /// The store committed the end of a lease without its holder.
    #[serde(rename = "reclaim")]
    Reclaim(Transition),
    /// The store committed that an operator ended an event.
    #[serde(rename = "cancel")]
    Cancel(Transition),
    /// The store committed that an operator began a new round.
    #[serde(rename = "replay")]
    Replay(Transition),
    /// The store refused a settle or release by its token.
    #[serde(rename = "fenced")]
    Fenced(Fenced),
    /// The store's rows were counted.
    #[serde(rename = "census")]
    Census(Census),
}

/// The source of transitions that an audit trigger wrote.
pub const PG_AUDIT: &str = "pg.audit";
/// The source of transitions that the simulation's model made.
pub const SIM: &str = "sim";

impl Op {
    /// Who observes such an op.
    #[must_use]
    pub const fn source(&self) -> &'static str {
        match self {
            Op::RunStart(_) | Op::Phase(_) | Op::BoundReached(_) => "run",
            Op::Worker(_) | Op::WorkerExit(_) | Op::WorkerLog(_) => "worker",
            Op::IngestInvoke(_)
            | Op::IngestOk(_)
            | Op::IngestFail(_)
            | Op::IngestInfo(_)
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

/// A part of the run with workers, a database and settings of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Section {
    /// Scaled settings, faults.
    Main,
    /// The dispatcher's default settings, scripted failures only.
    Defaults,
}

/// What was planned, as far as checkers need it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunStart {
    /// The seed of the run.
    pub seed: Seed,
    /// The profile's name.
    pub profile: String,
    /// SHA-256 of the schedule's text.
    pub schedule_sha256: String,
    /// The settings of each section that the run has.
    pub sections: BTreeMap<Section, Settings>,
    /// Kills that must have hit an open request.
    pub kills_required: u32,
    /// How many faults of each kind the plan has.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub faults_planned: BTreeMap<String, PlannedKind>,
    /// The events that must die, by ordinal, and why.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", with = "pairs")]
    pub deaths: BTreeMap<u64, String>,
    /// True when the plan has failing answers.
    pub failures_planned: bool,
    /// True when the plan has hangs.
    pub hangs_planned: bool,
}

/// A map with numbers for keys as a list of pairs: in a tagged op, serde reads such keys as texts only.
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

/// The phases of a run, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Events are posted and nothing is done to anybody: what the system does in peace.
    Baseline,
    /// Events are posted and faults applied.
    Storm,
    /// Everything is healed and no fault starts any more.
    Heal,
    /// What was accepted is brought to its end.
    Drain,
    /// The end of the drain: every event had ended, or the bound had passed.
    FinalReads,
    /// Nothing follows.
    End,
}

/// A phase began.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PhaseBegin {
    /// Which one.
    pub phase: Phase,
    /// How long it may take, in microseconds, where it has a bound.
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

/// A client sends an event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Invoke {
    /// Number of the client op: unique in the run.
    pub op: u64,
    /// Which planned event.
    pub ordinal: u64,
    /// Where it belongs.
    pub section: Section,
    /// Its idempotency key.
    pub key: Option<String>,
    /// SHA-256 of the payload's exact bytes, in hex.
    pub sha256: String,
    /// Length of the payload, in bytes.
    pub bytes: usize,
    /// The target that it names.
    pub target: String,
    /// The API that it is posted to.
    pub via: String,
    /// How many bytes of the request's body are sent, when the client breaks it off before its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut_at: Option<usize>,
}

/// A client holds a whole 202.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Acknowledged {
    /// Number of the client op.
    pub op: u64,
    /// Which planned event.
    pub ordinal: u64,
    /// The id that the answer gave.
    pub id: String,
}

/// A post that ended without a 202.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NotAcknowledged {
    /// Number of the client op.
    pub op: u64,
    /// Which planned event.
    pub ordinal: u64,
    /// The status of the answer, when a whole one came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// What was seen.
    pub why: String,
}

/// What the script told the receiver to do with a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scripted {
    /// The behavior's kind, with its status where it has one.
    pub what: String,
    /// Nothing is answered sooner than this, in milliseconds.
    pub after_ms: u64,
    /// The `Retry-After` of the answer, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_s: Option<u64>,
}

/// A request arrived at a receiver.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecvBegin {
    /// Name of the request: unique in the run, and begins with its receiver, as in `r0-17`.
    pub req: String,
    /// The ordinal in its path.
    pub ordinal: Option<u64>,
    /// Its `webhook-id`.
    pub id: Option<String>,
    /// Its `webhook-attempt`.
    pub attempt: Option<u32>,
    /// The URL at which it arrived.
    pub target: String,
    /// SHA-256 of the exact body, in hex.
    pub sha256: String,
    /// `valid`, or why the signature is not.
    pub sig: String,
    /// What the receiver will do with it; nothing for a refused request.
    pub scripted: Option<Scripted>,
}

impl RecvBegin {
    /// The receiver that got the request, from 0.
    #[must_use]
    pub fn receiver(&self) -> Option<u32> {
        let name = self.req.split('-').next()?;
        name.strip_prefix('r')?.parse().ok()
    }

    /// False for a request that its sender broke off: neither its body nor its signature could be
    /// checked.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        !self.sig.starts_with(SIG_UNCHECKED)
    }
}

/// The `sig` of a request whose signature is valid.
pub const SIG_VALID: &str = "valid";
/// What the `sig` of a request that could not be checked begins with.
pub const SIG_UNCHECKED: &str = "unchecked";

/// A request ended at a receiver.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecvEnd {
    /// Name of the request.
    pub req: String,
    /// The ordinal in its path.
    pub ordinal: Option<u64>,
    /// The status of an answer that was written whole.
    pub status: Option<u16>,
    /// How it ended: `answered`, or what came in between.
    pub how: String,
}

impl RecvEnd {
    /// True when a whole 2xx was written.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.status
            .is_some_and(|status| (200..300).contains(&status))
    }
}

/// The `how` of a request whose answer was written whole.
pub const ANSWERED: &str = "answered";
/// The `how` of a request whose answer was written whole, and whose connection was then reset.
pub const ANSWERED_THEN_RESET: &str = "answered_then_reset";
/// The `how` of a request whose sender went away.
pub const PEER_CLOSED: &str = "peer_closed";

/// What `GET /events/{id}` said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Which planned event.
    pub ordinal: u64,
    /// The id that was asked for.
    pub id: String,
    /// Status of the answer; 0 when there was none.
    pub http: u16,
    /// `pending`, `delivered` or `dead`.
    pub status: Option<String>,
    /// Why it is dead.
    pub reason: Option<String>,
    /// Attempts begun and not released.
    pub attempt_count: Option<u32>,
    /// The attempts, as told.
    pub attempts: Vec<AttemptSeen>,
}

impl State {
    /// The state of an event that no API has told yet.
    #[must_use]
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

    /// True when nothing more will happen to the event: ended, or unknown to the dispatcher.
    #[must_use]
    pub fn is_final(&self) -> bool {
        self.http == 404 || matches!(self.status.as_deref(), Some("delivered" | "dead"))
    }
}

/// One attempt as the view tells it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttemptSeen {
    /// Its number, from 1.
    pub number: u32,
    /// How it ended.
    pub outcome: String,
    /// The status of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_code: Option<u16>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_2xx_is_a_success_and_nothing_else_is() {
        let success = |status| {
            let end = RecvEnd {
                req: String::new(),
                ordinal: None,
                status,
                how: ANSWERED.into(),
            };
            end.is_success()
        };
        assert_eq!([200, 299].map(|status| success(Some(status))), [true; 2]);
        assert_eq!([199, 300].map(|status| success(Some(status))), [false; 2]);
        assert!(!success(None));
    }

    #[test]
    fn an_event_that_has_ended_or_is_unknown_is_final() {
        let read = |http, status: Option<&str>| {
            let status = status.map(str::to_owned);
            let state = State {
                http,
                status,
                ..State::unread(3, "e")
            };
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
