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

/// When no worker of the main section ran, as far as stops tell: a killed one is taken for running.
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
    idle
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::sample::{SECOND, Sample};
    use crate::history::op::{Op, WorkerSeen};

    fn stopped(took_us: u64, code: Option<i32>, forced: bool) -> Sample {
        let asked_us = 8 * SECOND;
        let exit = WorkerExit {
            worker: "w0".into(),
            fault: 2,
            asked_us,
            code,
            signal: None,
            forced,
        };
        let started = WorkerSeen {
            worker: "w0".into(),
            section: Section::Main,
            ready: false,
        };
        Sample::default()
            .with(1, Op::Worker(started))
            .with(asked_us + took_us, Op::WorkerExit(exit))
    }

    #[test]
    fn a_clean_stop_in_time_is_none_and_any_other_is_a_violation() {
        let judged = |sample: Sample| check(&Facts::of(&sample.history()));
        assert!(judged(stopped(SECOND, Some(0), false)).is_valid());
        assert!(judged(stopped(SECOND, Some(1), false)).is_invalid());
        assert!(judged(stopped(SECOND, None, true)).is_invalid());
        assert!(judged(stopped(11 * SECOND, Some(0), false)).is_invalid());
    }

    #[test]
    fn a_request_while_nobody_runs_is_a_violation() {
        let sample = stopped(SECOND, Some(0), false);
        let started = WorkerSeen {
            worker: "w0".into(),
            section: Section::Main,
            ready: false,
        };
        let sample = sample.with(12 * SECOND, Op::Worker(started));
        let sample = sample.with_receipt(10 * SECOND, 0, 3);
        assert!(check(&Facts::of(&sample.history())).is_invalid());
    }

    #[test]
    fn an_attempt_that_a_stop_leaves_abandoned_is_a_violation() {
        let sample = stopped(0, Some(0), false).edit(|t, op| {
            // The kill of the sample becomes the stop.
            if let Op::WorkerExit(exit) = op {
                exit.asked_us = crate::checker::sample::KILL;
                *t = exit.asked_us + SECOND;
            }
        });
        let sample = sample.without(|op| matches!(op, Op::FaultStart(_)));
        assert!(check(&Facts::of(&sample.history())).is_invalid());
    }

    #[test]
    fn a_run_without_stops_is_unknown() {
        assert_eq!(
            check(&Facts::of(&Sample::default().history())).word(),
            "unknown"
        );
    }
}
