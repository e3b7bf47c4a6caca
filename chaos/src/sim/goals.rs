//! Goals: situations that must occur in some of many seeds.
//!
//! A pass over a million seeds without one stale settle would prove nothing about fencing. The
//! goals of a run are computed from its history.

use std::collections::{BTreeMap, BTreeSet};

use crate::fault::{Kills, Target};
use crate::history::op::{ANSWERED_THEN_RESET, Op};
use crate::history::transition::{Step, Transition};

/// Every goal, in the order of the report.
pub const GOALS: &[&str] = &[
    "an event was delivered",
    "an event became dead: exhausted",
    "an event became dead: gone",
    "an event became dead: abandoned",
    "a lease was reclaimed because its worker had exited",
    "a lease was reclaimed because it had expired",
    "a claim was released",
    "an event was stored with a lease",
    "an event that was stored with a lease was released",
    "a stale settle was refused",
    "a settle was repeated after its commit",
    "a request arrived after the request of a later attempt",
    "an event was delivered twice",
    "a response was lost",
    "the event of a post with unknown outcome was delivered",
    "a post was repeated with its idempotency key",
    "a worker was killed with an open request",
    "a worker was killed between a claim and its request",
    "an event was claimed again within a second of a kill",
    "a run had no fault",
];

/// Number of runs that reached each goal, and number of faults that struck.
#[derive(Clone, Debug, Default)]
pub struct Goals {
    reached: BTreeMap<&'static str, u64>,
    faults: BTreeMap<String, u64>,
}

impl Goals {
    /// Adds the goals and faults of one run.
    pub fn add(&mut self, ops: &[(u64, Op)]) {
        let mut reader = Reader::default();
        for (t, op) in ops {
            reader.read(*t, op);
        }
        if reader.faults.is_empty() {
            reader.reached.insert("a run had no fault");
        }
        for goal in reader.reached {
            *self.reached.entry(goal).or_default() += 1;
        }
        for fault in reader.faults {
            *self.faults.entry(fault).or_default() += 1;
        }
    }

    /// Returns each goal with the number of runs that reached it.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        GOALS.iter().map(|goal| (*goal, self.reached.get(goal).copied().unwrap_or(0)))
    }

    /// Returns each fault name with the number of times that it struck.
    pub const fn faults(&self) -> &BTreeMap<String, u64> {
        &self.faults
    }
}

/// Reads one history and collects its goals.
#[derive(Default)]
struct Reader<'h> {
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
    /// Time of the accept of each event, by the clock of the database.
    accepted: BTreeMap<&'h str, i64>,
    handed_over: BTreeSet<&'h str>,
}

impl<'h> Reader<'h> {
    fn read(&mut self, t: u64, op: &'h Op) {
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
                self.reach("a post was repeated with its idempotency key", posts > 1);
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
                self.reach("a request arrived after the request of a later attempt", late);
                if let Some(ordinal) = begin.ordinal {
                    self.requests.insert(&begin.req, ordinal);
                }
            }
            Op::RecvEnd(end) => {
                self.reach("a response was lost", end.how == ANSWERED_THEN_RESET);
                if end.is_success()
                    && let Some(ordinal) = end.ordinal
                {
                    let taken = self.taken.entry(ordinal).or_default();
                    *taken += 1;
                    let twice = *taken > 1;
                    self.reach("an event was delivered twice", twice);
                }
            }
            Op::Fenced(fenced) => {
                let goal = if fenced.already {
                    "a settle was repeated after its commit"
                } else {
                    "a stale settle was refused"
                };
                self.reached.insert(goal);
            }
            Op::Phase(phase) if phase.phase == crate::history::op::Phase::End => {
                let unknown = self.taken.keys().any(|o| !self.acknowledged.contains(o));
                self.reach("the event of a post with unknown outcome was delivered", unknown);
            }
            op => {
                if let Some((step, transition)) = op.transition() {
                    self.committed(t, step, transition);
                }
            }
        }
    }

    fn committed(&mut self, t: u64, step: Step, op: &'h Transition) {
        let holder = op.holder.as_deref().unwrap_or_default();
        match step {
            Step::Accept => {
                self.accepted.insert(&op.id, op.now_us);
            }
            Step::Claim => {
                // The accept and the claim of one transaction.
                let is_handed = self.accepted.get(op.id.as_str()) == Some(&op.now_us);
                if is_handed && op.attempt == 1 {
                    self.handed_over.insert(&op.id);
                    self.reached.insert("an event was stored with a lease");
                }
                self.claimed_only.insert((&op.id, op.attempt), holder);
                let soon = self.killed_at.is_some_and(|at| t < at + 1_000_000);
                let again = soon && self.reclaimed.contains(op.id.as_str());
                self.reach("an event was claimed again within a second of a kill", again);
            }
            Step::Release => {
                self.reach("a claim was released", true);
                let handed = op.attempt == 1 && self.handed_over.contains(op.id.as_str());
                self.reach("an event that was stored with a lease was released", handed);
            }
            Step::Reclaim => {
                self.reclaimed.insert(&op.id);
                let ran_out = op.lease_until_us.is_some_and(|until| until <= op.now_us);
                self.reach("a lease was reclaimed because it had expired", ran_out);
                self.reach("a lease was reclaimed because its worker had exited", !ran_out);
            }
            _ => {}
        }
        let goal = match (op.after.status.as_str(), op.after.reason.as_deref()) {
            ("delivered", _) => "an event was delivered",
            (_, Some("exhausted")) => "an event became dead: exhausted",
            (_, Some("gone")) => "an event became dead: gone",
            (_, Some("abandoned")) => "an event became dead: abandoned",
            _ => return,
        };
        self.reached.insert(goal);
    }

    fn killed(&mut self, t: u64, target: &Target, open: bool) {
        self.killed_at = Some(t);
        self.reach("a worker was killed with an open request", open);
        let unsent = self.claimed_only.values().any(|of| target.may_be(of));
        let goal = "a worker was killed between a claim and its request";
        self.reach(goal, unsent);
    }

    fn reach(&mut self, goal: &'static str, reached: bool) {
        if reached {
            self.reached.insert(goal);
        }
    }
}
