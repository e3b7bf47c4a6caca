//! A worker that gets SIGTERM exits in time and leaves no attempt behind.
//!
//! It exits with code 0 within `SHUTDOWN_SECONDS`, and its open attempts are settled or released.
//! While no worker runs, no request is sent. Receivers cannot see which of several workers sent a
//! request.

use std::collections::BTreeSet;

use super::backoff::{WIRE_SLACK_US, may_have_kept_unsettled};
use super::declaration::{Checker, Property, When};
use super::verdict::{Examination, Verdict};
use crate::history::facts::{At, Facts};
use crate::history::op::{Section, WorkerExit};

/// The declaration of this checker.
pub const CHECKER: Checker = Checker {
    name: "graceful_stop",
    invariant: "a worker that gets SIGTERM exits cleanly in time and settles or releases its attempts",
    property: Property::Safety,
    when: When::real_if("a worker was stopped", |facts| !facts.exits.is_empty()),
    needs: &[],
    check,
};

/// Time that a stop may take beyond its setting on a loaded machine, in microseconds.
const STOP_SLACK_US: u64 = 4_000_000;

fn check(facts: &Facts<'_>) -> Verdict {
    let mut examination = Examination::default();
    let settings = facts.start.and_then(|start| start.sections.get(&Section::Main));
    let Some(settings) = settings else {
        return Verdict::Unknown { examined: 0, why: "the run has no start".into() };
    };
    let bound_us = settings.shutdown_ms() * 1_000 + STOP_SLACK_US;
    for exit in &facts.exits {
        examination.saw_one();
        let (op, took_us) = (exit.op, exit.op.ended_us.saturating_sub(exit.op.asked_us));
        if op.forced || op.code != Some(0) || took_us > bound_us {
            let what = format!(
                "{} ended with code {:?}, signal {:?} after {} ms",
                op.worker,
                op.code,
                op.signal,
                took_us / 1_000
            );
            examination.broken(what, [exit.seq]);
        }
        for (what, seq) in left_behind(facts, exit) {
            examination.broken(what, [exit.seq, seq]);
        }
    }
    for (from, to) in idle(facts) {
        let of_main = facts.accepted().filter(|(_, event)| event.section() == Section::Main);
        let mut sent = of_main.flat_map(|(_, event)| &event.receipts).map(|receipt| receipt.begin);
        if let Some(begin) = sent.find(|begin| begin.t > from + WIRE_SLACK_US && begin.t < to) {
            examination.broken("a request was received while no worker ran".into(), [begin.seq]);
        }
    }
    examination.verdict("no worker was stopped", "each exit clean and in time".into())
}

/// Returns the attempts that were open at the SIGTERM and are abandoned, and that no other fault
/// explains.
fn left_behind(facts: &Facts<'_>, exit: &At<'_, WorkerExit>) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    for (ordinal, event) in facts.accepted() {
        let open = event.receipts.iter().filter(|receipt| {
            receipt.begin.t <= exit.op.asked_us && receipt.end_us() >= exit.op.asked_us
        });
        let abandoned = open.filter(|receipt| event.is_called_abandoned(receipt));
        for receipt in abandoned {
            let mut faults = facts.faults_of(event).iter();
            if !faults.any(|fault| may_have_kept_unsettled(fault, receipt)) {
                let what =
                    format!("an attempt of event {ordinal} was open at a stop and is abandoned");
                found.push((what, receipt.begin.seq));
            }
        }
    }
    found
}

/// Returns the intervals in which no worker of the main section ran. A killed worker counts as
/// running, because its restart is not an exit.
fn idle(facts: &Facts<'_>) -> Vec<(u64, u64)> {
    let starts = facts.workers.iter().filter(|at| at.op.section == Section::Main && !at.op.ready);
    let starts = starts.map(|at| (at.t, at.op.worker.as_str(), true));
    let ends = facts.exits.iter().map(|at| (at.op.ended_us, at.op.worker.as_str(), false));
    let mut changes: Vec<(u64, &str, bool)> = starts.chain(ends).collect();
    changes.sort_unstable();
    let (mut running, mut idle, mut since) = (BTreeSet::new(), Vec::new(), None);
    for (t, worker, starts) in changes {
        if starts {
            idle.extend(since.take().map(|from| (from, t)));
            running.insert(worker);
        } else if running.remove(worker) && running.is_empty() {
            since = Some(t);
        }
    }
    idle.extend(since.map(|from| (from, u64::MAX)));
    idle
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::story::{SECOND, Story};
    use crate::checker::verdict_line;
    use crate::fault::Target;
    use crate::history::op::{Op, WorkerSeen};
    use crate::nemesis::KillWorker;

    /// Time of the SIGTERM.
    const ASKED: u64 = 8 * SECOND;
    /// Deadline of 1.5 s, five seconds, and the slack.
    const BOUND: u64 = 6_500_000 + STOP_SLACK_US;

    fn started(worker: &str, section: Section) -> Op {
        Op::Worker(WorkerSeen { worker: worker.into(), section, ready: false, pid: None })
    }

    fn stopped(took_us: u64, code: Option<i32>, forced: bool) -> Story {
        let exit = WorkerExit {
            worker: "w0".into(),
            fault: 2,
            asked_us: ASKED,
            ended_us: ASKED + took_us,
            code,
            signal: None,
            forced,
        };
        let story = Story::of_four_events().with(1, started("w0", Section::Main));
        story.with(ASKED + took_us, Op::WorkerExit(exit))
    }

    fn is_valid(story: Story) -> bool {
        check(&Facts::of(&story.history())).is_valid()
    }

    #[test]
    fn stop_must_be_clean_and_in_time() {
        let judged = |took_us, code, forced| is_valid(stopped(took_us, code, forced));
        assert!(judged(SECOND, Some(0), false));
        assert!(!judged(SECOND, Some(1), false));
        assert!(!judged(SECOND, None, false));
        assert!(!judged(SECOND, Some(0), true));
        assert!(judged(BOUND, Some(0), false));
        assert!(!judged(BOUND + 1, Some(0), false));
    }

    #[test]
    fn violation_states_code_signal_and_duration() {
        let judged = |story: Story| verdict_line(&CHECKER, &story.history());
        assert_eq!(
            judged(stopped(SECOND, Some(0), false)),
            "valid: 1 examined, each exit clean and in time"
        );
        assert_eq!(
            judged(stopped(11 * SECOND, Some(0), false)),
            "INVALID: 1 of 1 broken; w0 ended with code Some(0), signal None after 11000 ms (lines [37])"
        );
    }

    /// A stop without duration, and a request of event 0 at this time.
    fn sent_at(t: u64) -> Story {
        stopped(0, Some(0), false).with_receipt(t, 0, 3)
    }

    #[test]
    fn request_while_no_worker_runs_is_a_violation() {
        let until = 12 * SECOND;
        let restarted = |t| sent_at(t).with(until, started("w0", Section::Main));
        // A request that was sent before may arrive a little later.
        assert!(is_valid(restarted(ASKED + WIRE_SLACK_US)));
        assert!(!is_valid(restarted(ASKED + WIRE_SLACK_US + 1)));
        assert!(!is_valid(restarted(until - 1)));
        assert!(is_valid(restarted(until)));
    }

    #[test]
    fn request_after_the_last_stop_is_a_violation() {
        assert!(!is_valid(sent_at(10 * SECOND)));
    }

    #[test]
    fn request_of_another_worker_of_the_section_is_legal() {
        let beside = |section| sent_at(10 * SECOND).with(2, started("w1", section));
        assert!(is_valid(beside(Section::Main)));
        assert!(!is_valid(beside(Section::Defaults)));
        // The exit of a worker that never started changes nothing.
        let unknown = sent_at(10 * SECOND).edit(|_, op| {
            if let Op::Worker(seen) = op {
                seen.worker = "another".into();
            }
        });
        assert!(is_valid(unknown));
    }

    #[test]
    fn only_a_start_in_the_section_ends_its_idle_time() {
        let meanwhile = |op| {
            let story = sent_at(10 * SECOND).with(9 * SECOND, op);
            is_valid(story.with(12 * SECOND, started("w0", Section::Main)))
        };
        assert!(!meanwhile(started("defaults", Section::Defaults)));
        let ready =
            WorkerSeen { worker: "w1".into(), section: Section::Main, ready: true, pid: None };
        assert!(!meanwhile(Op::Worker(ready)));
        assert!(meanwhile(started("w1", Section::Main)));
    }

    #[test]
    fn attempt_that_was_open_at_a_stop_must_not_be_abandoned() {
        // The attempt that the kill leaves abandoned, without the kill.
        let open = |from, to| {
            let story = stopped(0, Some(0), false).edit(move |t, op| match op {
                Op::RecvBegin(begin) if begin.req == "r1-1" => *t = from,
                Op::RecvEnd(end) if end.req == "r1-1" => *t = to,
                _ => {}
            });
            story.without_faults()
        };
        assert!(!is_valid(open(ASKED, ASKED)));
        assert!(is_valid(open(ASKED - 2, ASKED - 1)));
        assert!(is_valid(open(ASKED + 1, ASKED + 2)));
        let settled = open(ASKED, ASKED).edit(|_, op| {
            if let Op::State(state) = op {
                for row in &mut state.attempts {
                    row.outcome = "delivered".into();
                }
            }
        });
        assert!(is_valid(settled));
        assert!(is_valid(open(ASKED, ASKED).with_fault(
            KillWorker::KIND,
            Target::Worker(1),
            ASKED..ASKED
        )));
    }

    #[test]
    fn run_without_stops_is_unknown() {
        assert_eq!(check(&Facts::of(&Story::of_four_events().history())).word(), "unknown");
    }
}
