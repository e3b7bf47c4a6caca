//! Resources are bounded: database sessions by the pools of the workers, and the descriptors and
//! the memory of each process by its settings.
//!
//! The harness counts the sessions on the server once per second, and the history has the changes.
//! A session that replaces another one may appear before its predecessor has ended. So only a count
//! that stays above the limit is a violation. A fault that kills workers, or that cuts them off
//! from the database, leaves sessions that the server ends later.

mod processes;

use std::collections::BTreeSet;

use super::declaration::{Checker, Property, When};
use super::verdict::{Examination, Verdict};
use crate::history::facts::{At, Facts};
use crate::history::op::{Phase, Section, Sessions};

/// The declaration of this checker.
pub const CHECKER: Checker = Checker {
    name: "resources",
    invariant: "each worker keeps at most two database sessions more than its pools have, and its \
                descriptors and its memory are within their limits",
    property: Property::Safety,
    when: When::real_if("sessions or descriptors were counted", is_exercised),
    needs: &[],
    check,
};

/// Maximum number of sessions of a worker: the defaults of `ACCEPT_CONNECTIONS` and
/// `WORK_CONNECTIONS`, one for the presence and one for health checks.
const PER_WORKER_MAX: u64 = 4 + 4 + 2;
/// How long a count may be above the limit, in microseconds.
const EXCESS_US_MAX: u64 = 5_000_000;
/// How long the server may take to end the sessions that a fault left, in microseconds. A statement
/// ends at its `statement_timeout`.
const LINGER_US: u64 = 10_000_000;

fn is_exercised(facts: &Facts<'_>) -> bool {
    !facts.sessions.is_empty() || !facts.usage.is_empty()
}

fn check(facts: &Facts<'_>) -> Verdict {
    let mut examination = Examination::default();
    let mut notes = Vec::new();
    for (section, counts) in &facts.sessions {
        let limit = limit(facts, *section);
        let most = counts.iter().filter_map(|at| at.op.sessions).max().unwrap_or(0);
        notes.push(format!("at most {most} of {limit} sessions"));
        let last_us = facts.phases.get(&Phase::FinalReads).map_or(0, |(begin_us, _)| *begin_us);
        let mut above: Option<&At<'_, Sessions>> = None;
        for count in counts {
            if count.op.sessions.is_some() {
                examination.saw_one();
            }
            let is_above = count.op.sessions.is_some_and(|sessions| sessions > limit);
            if !is_above && let Some(first) = above.take() {
                judge(&mut examination, facts, first, count.t);
            } else if is_above {
                above.get_or_insert(count);
            }
        }
        if let Some(first) = above {
            judge(&mut examination, facts, first, last_us);
        }
    }
    notes.extend(processes::examine(facts, PER_WORKER_MAX, &mut examination));
    examination.verdict("no session was counted", notes.join("; "))
}

/// The maximum number of sessions of a section.
fn limit(facts: &Facts<'_>, section: Section) -> u64 {
    let of_section = facts.workers.iter().filter(|at| at.op.section == section);
    let workers: BTreeSet<&str> = of_section.map(|at| at.op.worker.as_str()).collect();
    workers.len() as u64 * PER_WORKER_MAX
}

/// Judges a count that was above the limit from `first` until `until_us`.
fn judge(
    examination: &mut Examination,
    facts: &Facts<'_>,
    first: &At<'_, Sessions>,
    until_us: u64,
) {
    let excess_us = longest_unexcused_us(facts, first.t, until_us);
    if excess_us > EXCESS_US_MAX {
        let (sessions, ms) = (first.op.sessions.unwrap_or(0), excess_us / 1_000);
        let limit = limit(facts, first.op.section);
        let what = format!("{sessions} or more sessions for {ms} ms, the limit is {limit}");
        examination.broken(what, [first.seq]);
    }
}

/// The longest part of an interval in which no fault may have left sessions.
fn longest_unexcused_us(facts: &Facts<'_>, from_us: u64, until_us: u64) -> u64 {
    let (mut at_us, mut longest_us) = (from_us, 0);
    for fault in facts.faults.iter().filter(|fault| fault.may_leave_sessions()) {
        if fault.overlaps(at_us, until_us, LINGER_US) {
            longest_us = longest_us.max(fault.start.t.saturating_sub(at_us));
            let ended_us = fault.end_us.unwrap_or(u64::MAX).saturating_add(LINGER_US);
            at_us = at_us.max(ended_us);
        }
    }
    longest_us.max(until_us.saturating_sub(at_us))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::story::ops::{links, w0};
    use crate::checker::story::{SECOND, Story};
    use crate::checker::verdict_line;
    use crate::fault::Target;
    use crate::history::op::{Op, WorkerSeen};
    use crate::nemesis::{BlackHole, HangReceiver, KillWorker, LoseStandby};

    /// A run of 60 s with one worker and these counts, by second.
    fn counted(counts: &[(u64, Option<u64>)]) -> Story {
        let worker =
            WorkerSeen { worker: "w0".into(), section: Section::Main, ready: true, pid: None };
        let story =
            Story::accepted().with(1, Op::Worker(worker.clone())).with(2, Op::Worker(worker));
        counts.iter().fold(story, |story, (s, sessions)| {
            let seen = Sessions { section: Section::Main, sessions: *sessions };
            story.with(s * SECOND, Op::Sessions(seen))
        })
    }

    fn judged(story: Story) -> String {
        verdict_line(&CHECKER, &story.history())
    }

    #[test]
    fn sessions_up_to_the_limit_are_valid() {
        let line = judged(counted(&[(1, Some(3)), (2, Some(10))]));
        assert_eq!(line, "valid: 2 examined, at most 10 of 10 sessions");
    }

    #[test]
    fn count_that_stays_above_the_limit_is_invalid() {
        let back_at =
            |s| judged(counted(&[(1, Some(3)), (2, Some(11)), (3, Some(12)), (s, Some(10))]));
        assert!(back_at(7).starts_with("valid"), "{}", back_at(7));
        let what = "11 or more sessions for 6000 ms, the limit is 10";
        assert!(back_at(8).contains(what), "{}", back_at(8));
        assert!(judged(counted(&[(2, Some(11))])).starts_with("INVALID"));
    }

    #[test]
    fn failed_count_ends_an_excess() {
        assert!(judged(counted(&[(2, Some(11)), (6, None)])).starts_with("valid"));
        assert_eq!(judged(counted(&[(6, None)])), "unknown: 0 examined, no session was counted");
    }

    #[test]
    fn fault_that_leaves_sessions_excuses_an_excess() {
        let word = |kind, target| {
            let story = counted(&[(2, Some(11)), (16, Some(5))]);
            judged(story.with_fault(kind, target, SECOND..3 * SECOND))
                .split(':')
                .next()
                .map(str::to_owned)
        };
        assert_eq!(word(KillWorker::KIND, w0()).as_deref(), Some("valid"));
        assert_eq!(word(BlackHole::KIND, links("w0->pg")).as_deref(), Some("valid"));
        assert_eq!(word(BlackHole::KIND, links("workers->r0")).as_deref(), Some("INVALID"));
        assert_eq!(word(LoseStandby::KIND, Target::Postgres).as_deref(), Some("INVALID"));
        assert_eq!(word(HangReceiver::KIND, Target::Receiver(0)).as_deref(), Some("INVALID"));
    }
}
