//! What the simulation must sometimes reach: a pass of a million seeds that never saw a stale settle
//! proves nothing about fencing.
//!
//! Each goal is read off a history; over many seeds each must have been reached at least once.

use std::collections::{BTreeMap, BTreeSet};

use crate::fault::{Kills, Target};
use crate::history::op::{ANSWERED_THEN_RESET, Op};
use crate::history::transition::{Step, Transition};

/// Every goal, in the order of the report.
pub const GOALS: &[&str] = &[
    "an event was delivered",
    "an event died exhausted",
    "an event died gone",
    "an event died abandoned",
    "a lease ended because its holder was gone",
    "a lease ended because it ran out",
    "a claim went back unsent",
    "a stale settle was refused",
    "a settle was sent again after it had been written",
    "a request came after a later attempt's",
    "an event was taken twice",
    "an answer was lost on its way",
    "a post of unknown end was delivered",
    "a post was repeated under its key",
    "a worker was killed with a request open",
    "a worker was killed between a claim and its requests",
    "an event was claimed again within a second of a kill",
    "a run had no fault at all",
];

/// How often each goal was reached.
#[derive(Clone, Debug, Default)]
pub struct Goals {
    reached: BTreeMap<&'static str, u64>,
    faults: BTreeMap<String, u64>,
}

impl Goals {
    /// Reads a history.
    pub fn take(&mut self, ops: &[(u64, Op)]) {
        let mut reading = Reading::default();
        for (t, op) in ops {
            reading.take(*t, op);
        }
        if reading.faults.is_empty() {
            reading.reached.insert("a run had no fault at all");
        }
        for goal in reading.reached {
            *self.reached.entry(goal).or_default() += 1;
        }
        for fault in reading.faults {
            *self.faults.entry(fault).or_default() += 1;
        }
    }

    /// Each goal with the number of runs that reached it.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        GOALS
            .iter()
            .map(|goal| (*goal, self.reached.get(goal).copied().unwrap_or(0)))
    }

    /// Each kind of fault with the number of times it struck.
    #[must_use]
    pub const fn faults(&self) -> &BTreeMap<String, u64> {
        &self.faults
    }
}

#[derive(Default)]
struct Reading<'h> {
    reached: BTreeSet<&'static str>,
    faults: Vec<String>,
    newest: BTreeMap<&'h str, u32>,
    taken: BTreeMap<u64, u32>,
    requests: BTreeMap<&'h str, u64>,
    posts: BTreeMap<(u64, &'h str), u32>,
    acknowledged: BTreeSet<u64>,
    claimed_only: BTreeMap<(&'h str, u32), &'h str>,
    killed_at: Option<u64>,
    reclaimed: BTreeSet<&'h str>,
}

impl<'h> Reading<'h> {
    fn take(&mut self, t: u64, op: &'h Op) {
        match op {
            Op::FaultStart(start) => {
                self.faults.push(start.f.clone());
                if start.harm.kills == Kills::WorkerOnce {
                    self.killed(t, &start.target, !start.open.is_empty());
                }
            }
            Op::IngestInvoke(post) => {
                let key = post.key.as_deref().map(|key| (post.ordinal, key));
                let posts = key.map_or(0, |key| {
                    let posts = self.posts.entry(key).or_default();
                    *posts += 1;
                    *posts
                });
                self.reach("a post was repeated under its key", posts > 1);
            }
            Op::IngestOk(ok) => {
                self.acknowledged.insert(ok.ordinal);
            }
            Op::RecvBegin(begin) => {
                let id = begin.id.as_deref().unwrap_or_default();
                let number = begin.attempt.unwrap_or(0);
                self.claimed_only.remove(&(id, number));
                let newest = self.newest.entry(id).or_default();
                let late = number < *newest;
                *newest = number.max(*newest);
                self.reach("a request came after a later attempt's", late);
                if let Some(ordinal) = begin.ordinal {
                    self.requests.insert(&begin.req, ordinal);
                }
            }
            Op::RecvEnd(end) => {
                self.reach(
                    "an answer was lost on its way",
                    end.how == ANSWERED_THEN_RESET,
                );
                if end.is_success()
                    && let Some(ordinal) = end.ordinal
                {
                    let taken = self.taken.entry(ordinal).or_default();
                    *taken += 1;
                    let twice = *taken > 1;
                    self.reach("an event was taken twice", twice);
                }
            }
            Op::Fenced(fenced) => {
                let goal = if fenced.already {
                    "a settle was sent again after it had been written"
                } else {
                    "a stale settle was refused"
                };
                self.reached.insert(goal);
            }
            Op::Phase(phase) if phase.phase == crate::history::op::Phase::End => {
                let unknown = self.taken.keys().any(|o| !self.acknowledged.contains(o));
                self.reach("a post of unknown end was delivered", unknown);
            }
            op => {
                if let Some((step, transition)) = Step::of(op) {
                    self.committed(t, step, transition);
                }
            }
        }
    }

    fn committed(&mut self, t: u64, step: Step, op: &'h Transition) {
        let holder = op.holder.as_deref().unwrap_or_default();
        match step {
            Step::Claim => {
                self.claimed_only.insert((&op.id, op.attempt), holder);
                let soon = self.killed_at.is_some_and(|at| t < at + 1_000_000);
                let again = soon && self.reclaimed.contains(op.id.as_str());
                self.reach(
                    "an event was claimed again within a second of a kill",
                    again,
                );
            }
            Step::Release => self.reach("a claim went back unsent", true),
            Step::Reclaim => {
                self.reclaimed.insert(&op.id);
                let ran_out = op.lease_until_us.is_some_and(|until| until <= op.now_us);
                self.reach("a lease ended because it ran out", ran_out);
                self.reach("a lease ended because its holder was gone", !ran_out);
            }
            _ => {}
        }
        let goal = match (op.after.status.as_str(), op.after.reason.as_deref()) {
            ("delivered", _) => "an event was delivered",
            (_, Some("exhausted")) => "an event died exhausted",
            (_, Some("gone")) => "an event died gone",
            (_, Some("abandoned")) => "an event died abandoned",
            _ => return,
        };
        self.reached.insert(goal);
    }

    fn killed(&mut self, t: u64, target: &Target, open: bool) {
        self.killed_at = Some(t);
        self.reach("a worker was killed with a request open", open);
        let unsent = self.claimed_only.values().any(|of| target.may_be(of));
        let goal = "a worker was killed between a claim and its requests";
        self.reach(goal, unsent);
    }

    fn reach(&mut self, goal: &'static str, reached: bool) {
        if reached {
            self.reached.insert(goal);
        }
    }
}
