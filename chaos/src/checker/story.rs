//! An honest story of one event as the store tells it, for the checkers' tests, to be made
//! dishonest.
//!
//! Attempt 1 fails, attempt 2 loses its worker to a kill and its lease to a reclaim, attempt 3 is
//! taken. The database's clock is the history's plus a million seconds.

use std::collections::BTreeMap;

use super::sample::fault;
use crate::fault::{Kind, Target};
use crate::history::History;
use crate::history::op::*;
use crate::history::transition::{Census, Counts, Step, Transition};
use crate::nemesis::KillWorker;
use crate::profile::Settings;
use crate::seed::Seed;

/// The database's clock when the history begins, in microseconds.
const ZERO_US: i64 = 1_000_000_000_000;
const MS: u64 = 1_000;

/// The ops of a history, to be edited.
pub(crate) struct Story {
    ops: Vec<(u64, Op)>,
    counts: Counts,
    /// Claims so far: each has a token of its own.
    claims: u32,
}

impl Default for Story {
    fn default() -> Story {
        let mut story = Story::accepted();
        story.claim(20 * MS, 1);
        story.request(22 * MS, 1, 500);
        story.counts.failure_count = 1;
        story.step(30 * MS, Step::Settle, 1, Some(110 * MS));
        story.claim(150 * MS, 2);
        story.request(151 * MS, 2, 200);
        story.kill(152 * MS);
        story.counts.abandon_count = 1;
        story.step(700 * MS, Step::Reclaim, 2, Some(0));
        story.claim(701 * MS, 3);
        story.request(702 * MS, 3, 200);
        story.counts.abandon_count = 0;
        story.counts.status = "delivered".into();
        story.step(710 * MS, Step::Settle, 3, None);
        story.read();
        story
    }
}

impl Story {
    /// When the run is over, in microseconds.
    pub(crate) const END: u64 = 60_000_000;

    /// The event is accepted and due, and that is all of it.
    pub(crate) fn accepted() -> Story {
        let mut story = Story {
            ops: Vec::new(),
            counts: Counts {
                status: "pending".into(),
                ..Counts::default()
            },
            claims: 0,
        };
        story.begin();
        story.step(10 * MS, Step::Accept, 0, Some(0));
        let reads = PhaseBegin {
            phase: Phase::FinalReads,
            bound_us: None,
        };
        story.ops.push((Story::END, Op::Phase(reads)));
        story
    }

    /// One more transition, so many milliseconds after the begin; what else it counts is the
    /// edit's.
    pub(crate) fn then(mut self, ms: u64, step: Step, edit: impl Fn(&mut Transition)) -> Story {
        if step == Step::Claim {
            self.counts.attempt_count += 1;
        }
        let attempt = self.counts.attempt_count;
        if step == Step::Release {
            self.counts.attempt_count -= 1;
        }
        self.step(ms * MS, step, attempt, None);
        if let Some(op) = self.ops.last_mut().and_then(|(_, op)| transition(op)) {
            edit(op);
            self.counts.clone_from(&op.after);
        }
        self
    }

    /// Adds a fault from its request to its heal.
    pub(crate) fn with_fault(mut self, kind: Kind, target: Target, under_way: (u64, u64)) -> Story {
        self.ops.extend(fault(kind, target, under_way));
        self
    }

    /// Takes out every fault.
    pub(crate) fn in_peace(self) -> Story {
        self.without(|op| op.source() == "fault")
    }

    pub(crate) fn history(mut self) -> History {
        self.ops.sort_by_key(|(t, _)| *t);
        History::from_ops(self.ops)
    }

    pub(crate) fn edit(mut self, edit: impl Fn(&mut u64, &mut Op)) -> Story {
        for (t, op) in &mut self.ops {
            edit(t, op);
        }
        self
    }

    /// Edits every transition of a kind; of settles, the failed one alone.
    pub(crate) fn edit_steps(self, kind: Step, edit: impl Fn(&mut Transition)) -> Story {
        self.edit(|_, op| {
            let of_kind = op.transition().is_some_and(|(step, at)| {
                step == kind && (step != Step::Settle || at.after.status == "pending")
            });
            if let Some(at) = transition(op).filter(|_| of_kind) {
                edit(at);
            }
        })
    }

    /// Adds an op.
    pub(crate) fn with(mut self, t: u64, op: Op) -> Story {
        self.ops.push((t, op));
        self
    }

    pub(crate) fn without(mut self, drop: impl Fn(&Op) -> bool) -> Story {
        self.ops.retain(|(_, op)| !drop(op));
        self
    }

    fn begin(&mut self) {
        let start = RunStart {
            seed: Seed::new(1),
            profile: "test".into(),
            schedule_sha256: String::new(),
            sections: BTreeMap::from([(Section::Main, Settings::scaled())]),
            kills_required: 0,
            faults_planned: BTreeMap::new(),
            deaths: BTreeMap::new(),
            failures_planned: false,
            hangs_planned: false,
        };
        self.ops.push((0, Op::RunStart(start)));
        let invoke = Invoke {
            op: 1,
            ordinal: 0,
            section: Section::Main,
            key: None,
            sha256: "aa".into(),
            bytes: 2,
            target: "http://r/webhook/0".into(),
            via: "w0".into(),
            cut_at: None,
        };
        self.ops.push((9 * MS, Op::IngestInvoke(invoke)));
        let ok = Acknowledged {
            op: 1,
            ordinal: 0,
            id: "e".into(),
        };
        self.ops.push((11 * MS, Op::IngestOk(ok)));
    }

    fn read(&mut self) {
        let census = Census {
            rows: 1,
            delivered: 1,
            ..Census::default()
        };
        self.ops.push((Story::END, Op::Census(census)));
        let state = State {
            http: 200,
            status: Some("delivered".into()),
            attempt_count: Some(3),
            attempts: (1..)
                .zip(["rejected", "abandoned", "delivered"])
                .map(|(number, outcome)| AttemptSeen {
                    number,
                    outcome: outcome.into(),
                    status_code: None,
                })
                .collect(),
            ..State::unread(0, "e")
        };
        self.ops.push((Story::END, Op::State(state)));
    }

    fn claim(&mut self, t: u64, attempt: u32) {
        self.counts.attempt_count = attempt;
        self.step(t, Step::Claim, attempt, None);
    }

    fn step(&mut self, t: u64, step: Step, attempt: u32, due_in: Option<u64>) {
        let us = |t: u64| ZERO_US + i64::try_from(t).expect("a short story");
        self.claims += u32::from(step == Step::Claim);
        let token = Some(format!("t{}", self.claims));
        let ends = step.ends_a_lease();
        let lease_us = Settings::scaled().lease_ms * 1_000;
        let lasts = ends || step == Step::Claim;
        let transition = Transition {
            id: "e".into(),
            target: (step == Step::Accept).then(|| "http://r/webhook/0".into()),
            attempt,
            token: token.clone().filter(|_| lasts),
            held: token.filter(|_| ends),
            holder: lasts.then(|| "h0".into()),
            outcome: (step == Step::Settle).then(|| "rejected".into()),
            now_us: us(t),
            lease_until_us: lasts.then(|| us(t + lease_us)),
            due_us: due_in.map(|due_in| us(t + due_in)),
            after: self.counts.clone(),
        };
        self.ops.push((t, Op::of_transition(step, transition)));
    }

    fn request(&mut self, t: u64, attempt: u32, status: u16) {
        let req = format!("r{attempt}");
        let begin = RecvBegin {
            req: req.clone(),
            ordinal: Some(0),
            id: Some("e".into()),
            attempt: Some(attempt),
            target: "http://r/webhook/0".into(),
            sha256: "aa".into(),
            sig: SIG_VALID.into(),
            scripted: Some(Scripted {
                what: "answer".into(),
                after_ms: 0,
                retry_after_s: None,
            }),
        };
        self.ops.push((t, Op::RecvBegin(begin)));
        let end = RecvEnd {
            req,
            ordinal: Some(0),
            status: Some(status),
            how: ANSWERED.into(),
        };
        self.ops.push((t + 1, Op::RecvEnd(end)));
    }

    fn kill(&mut self, t: u64) {
        let start = FaultStart::new(1, &KillWorker::KIND, process("h0"));
        self.ops.push((t, Op::FaultStart(start)));
        self.ops.push((t + MS, Op::FaultEnd(FaultEnd { fault: 1 })));
    }
}

/// A process of the first worker, by its worker id, as the target of a fault.
pub(crate) fn process(id: &str) -> Target {
    let (worker, id) = (0, id.to_owned());
    Target::Process { worker, id }
}

fn transition(op: &mut Op) -> Option<&mut Transition> {
    match op {
        Op::Accept(at) | Op::Claim(at) | Op::Settle(at) | Op::Release(at) => Some(at),
        Op::Reclaim(at) | Op::Cancel(at) | Op::Replay(at) => Some(at),
        _ => None,
    }
}
