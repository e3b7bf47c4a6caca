//! The builder of histories for tests.
//!
//! `of_four_events` is a run as clients and receivers record it, without an audit.
//! `of_one_event` is the audited history of one event. Each history passes the checkers.
//! A test changes some ops and compares the verdict.

pub(crate) mod ops;

use std::collections::BTreeMap;
use std::ops::Range;

use self::ops::{Event, Request, fault, phase, planned, process, run_start, w0};
use crate::fault::{Kind, Target};
use crate::history::History;
use crate::history::op::*;
use crate::history::transition::{Census, Counts, Step, Transition};
use crate::nemesis::KillWorker;
use crate::profile::Settings;

/// One second in microseconds, the unit of all times here.
pub(crate) const SECOND: u64 = 1_000_000;
/// Time of the kill in the history of four events.
pub(crate) const KILL: u64 = 5 * SECOND;

const MS: u64 = 1_000;
/// Time on the database clock at the start of the history, in microseconds.
const DATABASE_START_US: i64 = 1_000_000_000_000;

/// The ops of a history, with their times, in the order in which they were added.
pub(crate) struct Story {
    ops: Vec<(u64, Op)>,
    /// The row of the audited event after its last transition.
    row: Counts,
    /// Number of claims so far, which names the token of the next claim.
    claims: u32,
}

impl Story {
    /// Time of the final reads of the audited history.
    pub(crate) const END: u64 = 60 * SECOND;

    /// A run without an audit, in which four events are delivered.
    ///
    /// Event 0 fails once. The worker of event 1 is killed during attempt 1. Event 2 hangs once and
    /// is posted twice under its key. Event 3 shows the gaps of the default settings.
    pub(crate) fn of_four_events() -> Self {
        let mut story = Self::new(RunStart {
            sections: BTreeMap::from([
                (Section::Main, Settings::scaled()),
                (Section::Defaults, Settings::defaults()),
            ]),
            kills_required: 1,
            faults_planned: BTreeMap::from([planned(KillWorker::KIND)]),
            failures_planned: true,
            hangs_planned: true,
            ..run_start()
        });
        story.push(1, phase(Phase::Storm));
        for ordinal in 0..3 {
            story.accept(10 + ordinal, ordinal, Section::Main);
        }
        story.accept(20, 3, Section::Defaults);
        let posted_again = Event::numbered(2);
        story.push(30, posted_again.posted(902, Section::Main));
        story.push(31, posted_again.acknowledged(902));
        story.receive(100, 0, 1, Some(500));
        story.receive(200_000, 0, 2, Some(200));
        story.kill_during_attempt_1();
        story.receive(KILL + 2 * SECOND, 1, 2, Some(200));
        story.receive(100, 2, 1, None);
        story.receive(2 * SECOND, 2, 2, Some(204));
        story.receive(1_000, 3, 1, Some(500));
        story.receive(1_000 + 2_100 * MS, 3, 2, Some(500));
        story.receive(1_000 + 6_500 * MS, 3, 3, Some(500));
        story.receive(1_000 + 15 * SECOND, 3, 4, Some(200));
        story.read_four_events(20 * SECOND);
        story
    }

    /// An audited history in which one event is delivered.
    ///
    /// Attempt 1 fails. The worker of attempt 2 is killed, and the lease is reclaimed. Attempt 3
    /// delivers the event.
    pub(crate) fn of_one_event() -> Self {
        let mut story = Self::accepted();
        story.claim(20 * MS, 1);
        story.receive_audited(22 * MS, 1, 500);
        story.row.failure_count = 1;
        story.step(30 * MS, Step::Settle, 1, Some(110 * MS));
        story.claim(150 * MS, 2);
        story.receive_audited(151 * MS, 2, 200);
        story.push(152 * MS, Op::FaultStart(FaultStart::new(1, &KillWorker::KIND, process("h0"))));
        story.push(153 * MS, Op::FaultEnd(FaultEnd { fault: 1 }));
        story.row.abandon_count = 1;
        story.step(700 * MS, Step::Reclaim, 2, Some(0));
        story.claim(701 * MS, 3);
        story.receive_audited(702 * MS, 3, 200);
        story.row.abandon_count = 0;
        story.row.status = "delivered".into();
        story.step(710 * MS, Step::Settle, 3, None);
        let census = Census { rows: 1, delivered: 1, ..Census::default() };
        story.push(Self::END, Op::Census(census));
        let read = Event::audited().delivered(&["rejected", "abandoned", "delivered"]);
        story.push(Self::END, read);
        story
    }

    /// The audited history of one event that is accepted, due and never claimed.
    pub(crate) fn accepted() -> Self {
        let mut story = Self::new(run_start());
        let event = Event::audited();
        story.push(9 * MS, event.posted(1, Section::Main));
        story.push(11 * MS, event.acknowledged(1));
        story.step(10 * MS, Step::Accept, 0, Some(0));
        story.push(Self::END, phase(Phase::FinalReads));
        story
    }

    /// The history of the ops in the order of their times.
    pub(crate) fn history(mut self) -> History {
        self.ops.sort_by_key(|(t, _)| *t);
        History::from_ops(self.ops)
    }

    /// Changes ops and their times in place.
    pub(crate) fn edit(mut self, edit: impl Fn(&mut u64, &mut Op)) -> Self {
        for (t, op) in &mut self.ops {
            edit(t, op);
        }
        self
    }

    /// Changes every transition of this kind. Of the settles, it changes only the failed one.
    pub(crate) fn edit_steps(self, kind: Step, edit: impl Fn(&mut Transition)) -> Self {
        self.edit(|_, op| {
            let of_kind = op.transition().is_some_and(|(step, at)| {
                step == kind && (step != Step::Settle || at.after.status == "pending")
            });
            if let Some(at) = transition(op).filter(|_| of_kind) {
                edit(at);
            }
        })
    }

    /// Removes the ops for which `drop` returns true.
    pub(crate) fn without(mut self, drop: impl Fn(&Op) -> bool) -> Self {
        self.ops.retain(|(_, op)| !drop(op));
        self
    }

    /// Removes the ops of all faults.
    pub(crate) fn without_faults(self) -> Self {
        self.without(|op| op.source() == "fault")
    }

    /// Adds an op.
    pub(crate) fn with(mut self, t: u64, op: Op) -> Self {
        self.push(t, op);
        self
    }

    /// Adds the start and the end of a fault.
    pub(crate) fn with_fault(mut self, kind: Kind, target: Target, under_way: Range<u64>) -> Self {
        self.ops.extend(fault(kind, target, under_way));
        self
    }

    /// Adds a request of a numbered event that gets a 200.
    pub(crate) fn with_receipt(mut self, t: u64, ordinal: u64, attempt: u32) -> Self {
        self.receive(t, ordinal, attempt, Some(200));
        self
    }

    /// Adds an event that is accepted at `t` and whose first request comes after `wait_us`.
    pub(crate) fn with_event(mut self, ordinal: u64, receiver: u32, t: u64, wait_us: u64) -> Self {
        self.accept(t, ordinal, Section::Main);
        let begin = t + wait_us;
        self.ops.extend(Event::numbered(ordinal).received(Request {
            id: format!("r{receiver}-{ordinal}"),
            attempt: 1,
            behavior: "answer",
            open: begin..begin + MS,
            status: Some(200),
            how: ANSWERED,
        }));
        self
    }

    /// Moves the begin of a request to another time, and its end by the same interval.
    pub(crate) fn with_request_at(self, ordinal: u64, attempt: u32, to: u64) -> Self {
        let wanted = (Some(ordinal), Some(attempt));
        let begin = self.ops.iter().find_map(|(t, op)| match op {
            Op::RecvBegin(begin) if (begin.ordinal, begin.attempt) == wanted => {
                Some((*t, begin.req.clone()))
            }
            _ => None,
        });
        let (from, req) = begin.expect("the history has this request");
        self.edit(|t, op| match op {
            Op::RecvBegin(begin) if begin.req == req => *t = to,
            Op::RecvEnd(end) if end.req == req => *t = to + (*t - from),
            _ => {}
        })
    }

    /// Adds a transition of the audited event. `edit` sets its counts, except the attempt count.
    pub(crate) fn then(mut self, ms: u64, step: Step, edit: impl Fn(&mut Transition)) -> Self {
        if step == Step::Claim {
            self.row.attempt_count += 1;
        }
        let attempt = self.row.attempt_count;
        if step == Step::Release {
            self.row.attempt_count -= 1;
        }
        self.step(ms * MS, step, attempt, None);
        if let Some(op) = self.ops.last_mut().and_then(|(_, op)| transition(op)) {
            edit(op);
            self.row.clone_from(&op.after);
        }
        self
    }

    fn new(start: RunStart) -> Self {
        Self {
            ops: vec![(0, Op::RunStart(start))],
            row: Counts { status: "pending".into(), ..Counts::default() },
            claims: 0,
        }
    }

    fn push(&mut self, t: u64, op: Op) {
        self.ops.push((t, op));
    }

    fn accept(&mut self, t: u64, ordinal: u64, section: Section) {
        let event = Event::numbered(ordinal);
        self.push(t, event.posted(ordinal, section));
        self.push(t, event.acknowledged(ordinal));
    }

    /// Adds a request of a numbered event. Without a status, the receiver hangs.
    fn receive(&mut self, t: u64, ordinal: u64, attempt: u32, status: Option<u16>) {
        let (behavior, how) = match status {
            Some(_) => ("answer", ANSWERED),
            None => ("hang", "hung_until_peer_closed"),
        };
        self.ops.extend(Event::numbered(ordinal).received(Request {
            id: format!("r{ordinal}-{attempt}-{t}"),
            attempt,
            behavior,
            open: t..t + MS,
            status,
            how,
        }));
    }

    fn receive_audited(&mut self, t: u64, attempt: u32, status: u16) {
        self.ops.extend(Event::audited().received(Request {
            id: format!("r{attempt}"),
            attempt,
            behavior: "answer",
            open: t..t + 1,
            status: Some(status),
            how: ANSWERED,
        }));
    }

    /// Kills the worker of event 1 while attempt 1 is open.
    fn kill_during_attempt_1(&mut self) {
        let request = Request {
            id: "r1-1".into(),
            attempt: 1,
            behavior: "answer 200",
            open: KILL - 50..KILL + 10,
            status: None,
            how: PEER_CLOSED,
        };
        let hit = vec![request.id.clone()];
        self.ops.extend(Event::numbered(1).received(request));
        let start = FaultStart { open: hit.clone(), ..FaultStart::new(1, &KillWorker::KIND, w0()) };
        self.push(KILL, Op::FaultStart(start));
        let effect = FaultEffect { fault: 1, effective_us: KILL + 5, hit, observed: None };
        self.push(KILL + 20, Op::FaultEffect(effect));
        self.push(KILL + SECOND / 2, Op::FaultEnd(FaultEnd { fault: 1 }));
    }

    fn read_four_events(&mut self, end: u64) {
        let drain = PhaseBegin { phase: Phase::Drain, bound_us: Some(60 * SECOND) };
        self.push(end, Op::Phase(drain));
        self.push(end, phase(Phase::FinalReads));
        let outcomes: [&[&str]; 4] = [
            &["rejected", "delivered"],
            &["abandoned", "delivered"],
            &["timeout", "delivered"],
            &["rejected", "rejected", "rejected", "delivered"],
        ];
        for (ordinal, outcomes) in (0..).zip(outcomes) {
            self.push(end, Event::numbered(ordinal).delivered(outcomes));
        }
        self.push(end, phase(Phase::End));
    }

    fn claim(&mut self, t: u64, attempt: u32) {
        self.row.attempt_count = attempt;
        self.step(t, Step::Claim, attempt, None);
    }

    /// Adds a transition of the audited event, which is then due after `due_in` microseconds.
    fn step(&mut self, t: u64, step: Step, attempt: u32, due_in: Option<u64>) {
        let us = |t: u64| DATABASE_START_US + i64::try_from(t).expect("a time of the history");
        let event = Event::audited();
        self.claims += u32::from(step == Step::Claim);
        let token = Some(format!("t{}", self.claims));
        let ends = step.ends_a_lease();
        let has_lease = ends || step == Step::Claim;
        let lease_us = Settings::scaled().lease_ms * 1_000;
        let transition = Transition {
            id: event.id,
            target: (step == Step::Accept).then_some(event.target),
            attempt,
            token: token.clone().filter(|_| has_lease),
            held: token.filter(|_| ends),
            holder: has_lease.then(|| "h0".into()),
            outcome: (step == Step::Settle).then(|| "rejected".into()),
            now_us: us(t),
            lease_until_us: has_lease.then(|| us(t + lease_us)),
            due_us: due_in.map(|due_in| us(t + due_in)),
            after: self.row.clone(),
        };
        self.push(t, Op::of_transition(step, transition));
    }
}

fn transition(op: &mut Op) -> Option<&mut Transition> {
    match op {
        Op::Accept(at) | Op::Claim(at) | Op::Settle(at) | Op::Release(at) => Some(at),
        Op::Reclaim(at) | Op::Cancel(at) | Op::Replay(at) => Some(at),
        _ => None,
    }
}
