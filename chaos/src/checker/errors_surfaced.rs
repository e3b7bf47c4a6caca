//! No worker panicked or wrote an error, whatever was done to it: that is a defect even where nothing was lost by it.
//!
//! The dispatcher keeps the level ERROR for what no fault explains; an outage is a warning.

use super::{Checker, Examination, Kind, Verdict};
use crate::history::facts::Facts;

/// The register's entry.
pub const CHECKER: Checker = Checker {
    name: "errors_surfaced",
    invariant: "no worker panicked, and none wrote a line of level ERROR",
    kind: Kind::Safety,
    check,
};

fn check(facts: &Facts<'_>) -> Verdict {
    let mut examination = Examination::default();
    let mut lines = 0;
    for log in &facts.logs {
        examination.saw_one();
        lines += log.op.lines;
        for line in log.op.panics.iter().chain(&log.op.errors) {
            examination.broken(format!("{}: {line}", log.op.worker), [log.seq]);
        }
    }
    examination.verdict("no log was read", format!("{lines} lines of log"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::sample::Sample;
    use crate::history::op::{Op, WorkerLog};

    fn judged(panics: Vec<String>, errors: Vec<String>) -> Verdict {
        let log = WorkerLog {
            worker: "w0".into(),
            lines: 9,
            panics,
            errors,
        };
        check(&Facts::of(
            &Sample::default().with(1, Op::WorkerLog(log)).history(),
        ))
    }

    #[test]
    fn a_panic_or_an_error_is_a_violation_and_a_quiet_log_is_none() {
        let told = |line: &str| vec![line.to_owned()];
        assert!(judged(told("thread panicked at worker.rs:1"), vec![]).is_invalid());
        assert!(judged(vec![], told("ERROR a result cannot be written")).is_invalid());
        let (examined, note) = (1, "9 lines of log".into());
        assert_eq!(judged(vec![], vec![]), Verdict::Valid { examined, note });
    }

    #[test]
    fn a_run_whose_logs_were_not_read_is_unknown() {
        assert_eq!(
            check(&Facts::of(&Sample::default().history())).word(),
            "unknown"
        );
    }
}
