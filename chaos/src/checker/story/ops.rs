//! Constructors of the ops of test histories: each op has one constructor.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::fault::{Kind, PlannedKind, Target};
use crate::history::op::*;
use crate::history::sha256_hex;
use crate::profile::Settings;
use crate::seed::Seed;

/// An event of a test history.
pub(super) struct Event {
    pub(super) ordinal: u64,
    pub(super) id: String,
    pub(super) key: Option<String>,
    pub(super) sha256: String,
    pub(super) bytes: usize,
    pub(super) target: String,
}

/// A request of an event, from its first byte to its end at the receiver.
pub(super) struct Request {
    /// Identifier at the receiver. The text before the first `-` names the receiver.
    pub(super) id: String,
    pub(super) attempt: u32,
    /// Planned behavior of the receiver.
    pub(super) behavior: &'static str,
    /// Times of the begin and the end, in microseconds.
    pub(super) open: Range<u64>,
    pub(super) status: Option<u16>,
    /// How the receiver ended the request.
    pub(super) how: &'static str,
}

impl Event {
    /// An event whose id, target and payload follow from its ordinal. Only event 2 has a key.
    pub(super) fn numbered(ordinal: u64) -> Self {
        Self {
            ordinal,
            id: format!("e{ordinal}"),
            key: (ordinal == 2).then(|| "key-2".into()),
            sha256: sha256_hex(&ordinal.to_le_bytes()),
            bytes: 8,
            target: format!("http://127.0.0.1:9/webhook/{ordinal}"),
        }
    }

    /// The event of the audited history.
    pub(super) fn audited() -> Self {
        Self {
            ordinal: 0,
            id: "e".into(),
            key: None,
            sha256: "aa".into(),
            bytes: 2,
            target: "http://r/webhook/0".into(),
        }
    }

    /// The post of the event with this number.
    pub(super) fn posted(&self, op: u64, section: Section) -> Op {
        Op::IngestInvoke(Invoke {
            op,
            ordinal: self.ordinal,
            section,
            key: self.key.clone(),
            sha256: self.sha256.clone(),
            bytes: self.bytes,
            target: self.target.clone(),
            via: "w0".into(),
            cut_at: None,
        })
    }

    /// The 202 to the post with this number.
    pub(super) fn acknowledged(&self, op: u64) -> Op {
        Op::IngestOk(Acknowledged { op, ordinal: self.ordinal, id: self.id.clone() })
    }

    /// The begin and the end of a request.
    pub(super) fn received(&self, request: Request) -> [(u64, Op); 2] {
        let begin = RecvBegin {
            req: request.id.clone(),
            ordinal: Some(self.ordinal),
            id: Some(self.id.clone()),
            attempt: Some(request.attempt),
            target: self.target.clone(),
            sha256: self.sha256.clone(),
            sig: SIG_VALID.into(),
            scripted: Some(Scripted {
                what: request.behavior.into(),
                after_ms: 0,
                retry_after_s: None,
            }),
        };
        let end = RecvEnd {
            req: request.id,
            ordinal: Some(self.ordinal),
            status: request.status,
            how: request.how.into(),
        };
        let Range { start, end: ended } = request.open;
        [(start, Op::RecvBegin(begin)), (ended, Op::RecvEnd(end))]
    }

    /// The final read of the delivered event, with the outcomes of its attempts.
    pub(super) fn delivered(&self, outcomes: &[&str]) -> Op {
        let attempts = (1..).zip(outcomes).map(|(number, outcome)| AttemptSeen {
            number,
            outcome: (*outcome).into(),
            status_code: None,
        });
        Op::State(State {
            http: 200,
            status: Some("delivered".into()),
            attempt_count: u32::try_from(outcomes.len()).ok(),
            attempts: attempts.collect(),
            ..State::unread(self.ordinal, &self.id)
        })
    }
}

/// The start of a run that plans nothing and has only events of the main section.
pub(super) fn run_start() -> RunStart {
    RunStart {
        seed: Seed::new(1),
        profile: "test".into(),
        schedule_sha256: String::new(),
        sections: BTreeMap::from([(Section::Main, Settings::scaled())]),
        kills_required: 0,
        faults_planned: BTreeMap::new(),
        deaths: BTreeMap::new(),
        failures_planned: false,
        hangs_planned: false,
    }
}

/// The begin of a phase without a time limit.
pub(crate) fn phase(phase: Phase) -> Op {
    let bound_us = None;
    Op::Phase(PhaseBegin { phase, bound_us })
}

/// The start and the end of a fault. The time of the start is the number of the fault.
pub(crate) fn fault(kind: Kind, target: Target, under_way: Range<u64>) -> [(u64, Op); 2] {
    let Range { start: number, end } = under_way;
    let start = FaultStart::new(number, &kind, target);
    let heal = FaultEnd { fault: number };
    [(number, Op::FaultStart(start)), (end, Op::FaultEnd(heal))]
}

/// The first worker, as the target of a fault.
pub(crate) fn w0() -> Target {
    Target::Worker(0)
}

/// The process of the first worker with this worker id, as the target of a fault.
pub(crate) fn process(id: &str) -> Target {
    let (worker, id) = (0, id.to_owned());
    Target::Process { worker, id }
}

/// Links as the target of a fault. A `+` separates their names.
pub(crate) fn links(names: &str) -> Target {
    let links = names.split('+').map(|name| name.parse().expect("a link"));
    Target::Links(links.collect())
}

/// One planned fault of this kind, as the start of a run lists it.
pub(crate) fn planned(kind: Kind) -> (String, PlannedKind) {
    let planned = PlannedKind { family: kind.family, harm: kind.harm, count: 1 };
    (kind.name.to_owned(), planned)
}
