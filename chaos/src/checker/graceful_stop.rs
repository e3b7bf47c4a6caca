//! A worker that is asked to stop ends by itself, in time, and leaves nothing behind.
//!
//! Its exit is clean and within `SHUTDOWN_SECONDS`; what was in flight is settled, not abandoned; and
//! while no worker runs, nothing is sent. Which of several workers sent a request, no receiver can tell.

use std::collections::BTreeSet;

use super::backoff::{WIRE_SLACK_US, may_have_kept_unsettled};
use super::{Checker, Examination, Kind, Verdict};
use crate::history::facts::{At, Facts};
use crate::history::op::{Section, WorkerExit};

/// The register's entry.
pub const CHECKER: Checker = Checker {
    name: "graceful_stop",
    invariant: "a worker that is asked to stop ends cleanly in time, and what it had is settled",
    kind: Kind::Safety,
    check,
};

/// What a stop may take beyond its setting on a loaded machine, in microseconds.
const STOP_SLACK_US: u64 = 4_000_000;

fn check(facts: &Facts<'_>) -> Verdict {
    let mut examination = Examination::default();
    let settings = facts
        .start
        .and_then(|start| start.sections.get(&Section::Main));
    let Some(settings) = settings else {
        return Verdict::Unknown {
            examined: 0,
            why: "the run has no start".into(),
        };
    };
    let bound_us = settings.shutdown_ms() * 1_000 + STOP_SLACK_US;
    for exit in &facts.exits {
        examination.saw_one();
        let (op, took_us) = (exit.op, exit.t.saturating_sub(exit.op.asked_us));
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
        let of_main = facts
            .accepted()
            .filter(|(_, event)| event.section() == Section::Main);
        let mut sent = of_main
            .flat_map(|(_, event)| &event.receipts)
            .map(|receipt| receipt.begin);
        if let Some(begin) = sent.find(|begin| begin.t > from + WIRE_SLACK_US && begin.t < to) {
            examination.broken("a request came while no worker ran".into(), [begin.seq]);
        }
    }
    examination.verdict(
        "no worker was asked to stop",
        "each clean and in time".into(),
    )
}

/// Attempts that were open when the worker was asked, and that no other fault explains to be abandoned.
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
                let what = format!("event {ordinal} was in flight at a stop and is abandoned");
                found.push((what, receipt.begin.seq));
            }
        }
    }
    found
}

/// When no worker of the main section ran, as far as stops tell: a killed one is taken for running, and
/// what is not started again stays away.
fn idle(facts: &Facts<'_>) -> Vec<(u64, u64)> {
    let starts = facts
        .workers
        .iter()
        .filter(|at| at.op.section == Section::Main && !at.op.ready);
    let starts = starts.map(|at| (at.t, at.op.worker.as_str(), true));
    let ends = facts
        .exits
        .iter()
        .map(|at| (at.t, at.op.worker.as_str(), false));
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
    use crate::checker::said;
    use crate::checker::sample::{SECOND, Sample};
    use crate::fault::Target;
    use crate::history::op::{Op, WorkerSeen};
    use crate::nemesis::KillWorker;

    /// When the worker is asked to stop.
    const ASKED: u64 = 8 * SECOND;
    /// The deadline of 1.5 s and five seconds, and the slack.
    const BOUND: u64 = 6_500_000 + STOP_SLACK_US;

    fn started(worker: &str, section: Section) -> Op {
        Op::Worker(WorkerSeen {
            worker: worker.into(),
            section,
            ready: false,
        })
    }

    fn stopped(took_us: u64, code: Option<i32>, forced: bool) -> Sample {
        let exit = WorkerExit {
            worker: "w0".into(),
            fault: 2,
            asked_us: ASKED,
            code,
            signal: None,
            forced,
        };
        let sample = Sample::default().with(1, started("w0", Section::Main));
        sample.with(ASKED + took_us, Op::WorkerExit(exit))
    }

    fn is_valid(sample: Sample) -> bool {
        check(&Facts::of(&sample.history())).is_valid()
    }

    #[test]
    fn a_clean_stop_in_time_is_none_and_any_other_is_a_violation() {
        let judged = |took_us, code, forced| is_valid(stopped(took_us, code, forced));
        assert!(judged(SECOND, Some(0), false));
        assert!(!judged(SECOND, Some(1), false));
        assert!(!judged(SECOND, None, false));
        assert!(!judged(SECOND, Some(0), true));
        assert!(judged(BOUND, Some(0), false));
        assert!(!judged(BOUND + 1, Some(0), false));
    }

    #[test]
    fn how_a_worker_ended_is_told() {
        let told = |sample: Sample| said(&CHECKER, &sample.history());
        assert_eq!(
            told(stopped(SECOND, Some(0), false)),
            "valid: 1 examined, each clean and in time"
        );
        assert_eq!(
            told(stopped(11 * SECOND, Some(0), false)),
            "INVALID: 1 of 1 broken; w0 ended with code Some(0), signal None after 11000 ms (lines [37])"
        );
    }

    /// A stop that takes no time, and a request of event 0 at another.
    fn sent_at(t: u64) -> Sample {
        stopped(0, Some(0), false).with_receipt(t, 0, 3)
    }

    #[test]
    fn a_request_while_nobody_runs_is_a_violation() {
        let until = 12 * SECOND;
        let restarted = |t| sent_at(t).with(until, started("w0", Section::Main));
        // What was sent before may be on its way for a while.
        assert!(is_valid(restarted(ASKED + WIRE_SLACK_US)));
        assert!(!is_valid(restarted(ASKED + WIRE_SLACK_US + 1)));
        assert!(!is_valid(restarted(until - 1)));
        assert!(is_valid(restarted(until)));
    }

    #[test]
    fn a_request_after_the_last_stop_is_a_violation() {
        assert!(!is_valid(sent_at(10 * SECOND)));
    }

    #[test]
    fn a_request_while_another_worker_of_the_section_runs_is_none() {
        let beside = |section| sent_at(10 * SECOND).with(2, started("w1", section));
        assert!(is_valid(beside(Section::Main)));
        assert!(!is_valid(beside(Section::Defaults)));
        // Nor does the end of one that never ran leave nobody.
        let unknown = sent_at(10 * SECOND).edit(|_, op| {
            if let Op::Worker(seen) = op {
                seen.worker = "another".into();
            }
        });
        assert!(is_valid(unknown));
    }

    #[test]
    fn only_a_start_in_the_section_itself_ends_the_time_in_which_nobody_runs() {
        let meanwhile = |op| {
            let sample = sent_at(10 * SECOND).with(9 * SECOND, op);
            is_valid(sample.with(12 * SECOND, started("w0", Section::Main)))
        };
        assert!(!meanwhile(started("defaults", Section::Defaults)));
        let ready = WorkerSeen {
            worker: "w1".into(),
            section: Section::Main,
            ready: true,
        };
        assert!(!meanwhile(Op::Worker(ready)));
        assert!(meanwhile(started("w1", Section::Main)));
    }

    #[test]
    fn an_attempt_is_left_behind_if_it_was_open_when_the_worker_was_asked() {
        // The one that the sample's kill leaves abandoned, and no kill.
        let open = |from, to| {
            let sample = stopped(0, Some(0), false).edit(move |t, op| match op {
                Op::RecvBegin(begin) if begin.req == "r1-1" => *t = from,
                Op::RecvEnd(end) if end.req == "r1-1" => *t = to,
                _ => {}
            });
            sample.without(|op| op.source() == "fault")
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
            Target::Workers(vec![1]),
            (ASKED, ASKED)
        )));
    }

    #[test]
    fn a_run_without_stops_is_unknown() {
        assert_eq!(
            check(&Facts::of(&Sample::default().history())).word(),
            "unknown"
        );
    }
}
