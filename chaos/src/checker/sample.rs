//! An honest history for the checkers' tests, and ways to make it dishonest.
//!
//! Event 0 fails once, event 1 loses its worker in flight, event 2 hangs once and is posted twice
//! under its key, event 3 shows the gaps of the default settings.

use std::collections::BTreeMap;

use crate::fault::{Kind, PlannedKind, Target};
use crate::history::op::*;
use crate::history::{History, sha256_hex};
use crate::nemesis::KillWorker;
use crate::profile::Settings;
use crate::seed::Seed;

/// One second, in the history's unit.
pub(crate) const SECOND: u64 = 1_000_000;
/// When the worker of event 1 is killed.
pub(crate) const KILL: u64 = 5 * SECOND;

/// The ops of a history, to be edited.
pub(crate) struct Sample {
    ops: Vec<(u64, Op)>,
}

impl Default for Sample {
    fn default() -> Sample {
        let mut sample = Sample {
            ops: vec![(0, start()), (1, phase(Phase::Storm, None))],
        };
        for ordinal in 0..3 {
            sample.accept(10 + ordinal, ordinal, Section::Main);
        }
        sample.accept(20, 3, Section::Defaults);
        sample.ops.push((30, invoke(902, 2, Section::Main)));
        sample.ops.push((31, ok(902, 2)));
        sample.receive(100, 0, 1, Some(500));
        sample.receive(200_000, 0, 2, Some(200));
        sample.kill();
        sample.receive(KILL + 2 * SECOND, 1, 2, Some(200));
        sample.receive(100, 2, 1, None);
        sample.receive(2 * SECOND, 2, 2, Some(204));
        for (n, t) in [(1, 0), (2, 21), (3, 65), (4, 150)] {
            let status = if n == 4 { 200 } else { 500 };
            sample.receive(1_000 + t * SECOND / 10, 3, n, Some(status));
        }
        let end = 20 * SECOND;
        sample
            .ops
            .push((end, phase(Phase::Drain, Some(60 * SECOND))));
        sample.ops.push((end, phase(Phase::FinalReads, None)));
        for (ordinal, outcomes) in [
            (0, &["rejected", "delivered"][..]),
            (1, &["abandoned", "delivered"]),
            (2, &["timeout", "delivered"]),
            (3, &["rejected", "rejected", "rejected", "delivered"]),
        ] {
            sample
                .ops
                .push((end, state(ordinal, "delivered", outcomes)));
        }
        sample.ops.push((end, phase(Phase::End, None)));
        sample
    }
}

impl Sample {
    /// The history as it is now.
    pub(crate) fn history(mut self) -> History {
        self.ops.sort_by_key(|(t, _)| *t);
        History::from_ops(self.ops)
    }

    /// Takes out the ops that `drop` names.
    pub(crate) fn without(mut self, drop: impl Fn(&Op) -> bool) -> Sample {
        self.ops.retain(|(_, op)| !drop(op));
        self
    }

    /// Changes ops, or their times, in place.
    pub(crate) fn edit(mut self, edit: impl Fn(&mut u64, &mut Op)) -> Sample {
        for (t, op) in &mut self.ops {
            edit(t, op);
        }
        self
    }

    /// Adds an op.
    pub(crate) fn with(mut self, t: u64, op: Op) -> Sample {
        self.ops.push((t, op));
        self
    }

    /// Adds a fault from its request to its heal.
    pub(crate) fn with_fault(
        mut self,
        kind: Kind,
        target: Target,
        under_way: (u64, u64),
    ) -> Sample {
        self.ops.extend(fault(kind, target, under_way));
        self
    }

    /// Moves a request, and its end with it, to another time.
    pub(crate) fn at(self, ordinal: u64, attempt: u32, to: u64) -> Sample {
        let wanted = (Some(ordinal), Some(attempt));
        let begin = self.ops.iter().find_map(|(t, op)| match op {
            Op::RecvBegin(begin) if (begin.ordinal, begin.attempt) == wanted => {
                Some((*t, begin.req.clone()))
            }
            _ => None,
        });
        let (from, req) = begin.expect("the sample has this request");
        self.edit(|t, op| match op {
            Op::RecvBegin(begin) if begin.req == req => *t = to,
            Op::RecvEnd(end) if end.req == req => *t = to + (*t - from),
            _ => {}
        })
    }

    /// Adds a whole request.
    pub(crate) fn with_receipt(mut self, t: u64, ordinal: u64, attempt: u32) -> Sample {
        self.receive(t, ordinal, attempt, Some(200));
        self
    }

    /// Adds an event that is accepted at that time and first received, by that receiver, so much later.
    pub(crate) fn with_event(mut self, ordinal: u64, receiver: u32, t: u64, later: u64) -> Sample {
        self.accept(t, ordinal, Section::Main);
        let req = format!("r{receiver}-{ordinal}");
        self.ops
            .push((t + later, begin(&req, ordinal, 1, "answer")));
        let end = RecvEnd {
            req,
            ordinal: Some(ordinal),
            status: Some(200),
            how: ANSWERED.into(),
        };
        self.ops.push((t + later + 1_000, Op::RecvEnd(end)));
        self
    }

    fn accept(&mut self, t: u64, ordinal: u64, section: Section) {
        self.ops.push((t, invoke(ordinal, ordinal, section)));
        self.ops.push((t, ok(ordinal, ordinal)));
    }

    fn receive(&mut self, t: u64, ordinal: u64, attempt: u32, status: Option<u16>) {
        let req = format!("r{ordinal}-{attempt}-{t}");
        let what = if status.is_some() { "answer" } else { "hang" };
        self.ops.push((t, begin(&req, ordinal, attempt, what)));
        let how = if status.is_some() {
            ANSWERED
        } else {
            "hung_until_peer_closed"
        };
        let end = RecvEnd {
            req,
            ordinal: Some(ordinal),
            status,
            how: how.into(),
        };
        self.ops.push((t + 1_000, Op::RecvEnd(end)));
    }

    fn kill(&mut self) {
        let req = "r1-1".to_owned();
        self.ops.push((KILL - 50, begin(&req, 1, 1, "answer 200")));
        let hit = vec![req.clone()];
        let start = FaultStart {
            open: hit.clone(),
            ..FaultStart::new(1, &KillWorker::KIND, w0())
        };
        self.ops.push((KILL, Op::FaultStart(start)));
        let end = RecvEnd {
            req,
            ordinal: Some(1),
            status: None,
            how: PEER_CLOSED.into(),
        };
        self.ops.push((KILL + 10, Op::RecvEnd(end)));
        let effect = FaultEffect {
            fault: 1,
            effective_us: KILL + 5,
            hit,
            observed: None,
        };
        self.ops.push((KILL + 20, Op::FaultEffect(effect)));
        self.ops
            .push((KILL + SECOND / 2, Op::FaultEnd(FaultEnd { fault: 1 })));
    }
}

/// A fault from its request to its heal; its number is its time, which tells it from others.
pub(crate) fn fault(kind: Kind, target: Target, (from, to): (u64, u64)) -> [(u64, Op); 2] {
    let start = FaultStart::new(from, &kind, target);
    let end = FaultEnd { fault: from };
    [(from, Op::FaultStart(start)), (to, Op::FaultEnd(end))]
}

/// The first worker, as the target of a fault.
pub(crate) fn w0() -> Target {
    Target::Worker(0)
}

/// Links, by names that are joined by a plus, as the target of a fault.
pub(crate) fn links(names: &str) -> Target {
    let links = names.split('+').map(|name| name.parse().expect("a link"));
    Target::Links(links.collect())
}

/// One planned fault of this kind.
pub(crate) fn planned(kind: Kind) -> (String, PlannedKind) {
    let planned = PlannedKind {
        family: kind.family,
        harm: kind.harm,
        count: 1,
    };
    (kind.name.to_owned(), planned)
}

fn start() -> Op {
    Op::RunStart(RunStart {
        seed: Seed::new(1),
        profile: "test".into(),
        schedule_sha256: String::new(),
        sections: BTreeMap::from([
            (Section::Main, Settings::scaled()),
            (Section::Defaults, Settings::defaults()),
        ]),
        kills_required: 1,
        faults_planned: BTreeMap::from([planned(KillWorker::KIND)]),
        deaths: BTreeMap::new(),
        failures_planned: true,
        hangs_planned: true,
    })
}

fn phase(phase: Phase, bound_us: Option<u64>) -> Op {
    Op::Phase(PhaseBegin { phase, bound_us })
}

fn target(ordinal: u64) -> String {
    format!("http://127.0.0.1:9/webhook/{ordinal}")
}

fn invoke(op: u64, ordinal: u64, section: Section) -> Op {
    Op::IngestInvoke(Invoke {
        op,
        ordinal,
        section,
        key: (ordinal == 2).then(|| "key-2".into()),
        sha256: sha256_hex(&ordinal.to_le_bytes()),
        bytes: 8,
        target: target(ordinal),
        via: "w0".into(),
        cut_at: None,
    })
}

fn ok(op: u64, ordinal: u64) -> Op {
    Op::IngestOk(Acknowledged {
        op,
        ordinal,
        id: format!("e{ordinal}"),
    })
}

fn begin(req: &str, ordinal: u64, attempt: u32, what: &str) -> Op {
    Op::RecvBegin(RecvBegin {
        req: req.into(),
        ordinal: Some(ordinal),
        id: Some(format!("e{ordinal}")),
        attempt: Some(attempt),
        target: target(ordinal),
        sha256: sha256_hex(&ordinal.to_le_bytes()),
        sig: SIG_VALID.into(),
        scripted: Some(Scripted {
            what: what.into(),
            after_ms: 0,
            retry_after_s: None,
        }),
    })
}

fn state(ordinal: u64, status: &str, outcomes: &[&str]) -> Op {
    let attempts = (1..).zip(outcomes).map(|(number, outcome)| AttemptSeen {
        number,
        outcome: (*outcome).into(),
        status_code: None,
    });
    Op::State(State {
        ordinal,
        id: format!("e{ordinal}"),
        http: 200,
        status: Some(status.into()),
        reason: None,
        attempt_count: u32::try_from(outcomes.len()).ok(),
        attempts: attempts.collect(),
    })
}
