//! No worker panicked, whatever was done to it: a panic is a defect even where nothing was lost by it.

use super::{Checker, Examination, Kind, Verdict};
use crate::history::facts::Facts;

/// The register's entry.
pub const CHECKER: Checker = Checker {
    name: "errors_surfaced",
    invariant: "no worker panicked",
    kind: Kind::Safety,
    check,
};

fn check(facts: &Facts<'_>) -> Verdict {
    let mut examination = Examination::default();
    let mut lines = 0;
    for log in &facts.logs {
        examination.saw_one();
        lines += log.op.lines;
        for panic in &log.op.panics {
            examination.broken(format!("{}: {panic}", log.op.worker), [log.seq]);
        }
    }
    examination.verdict("no log was read", format!("{lines} lines of log"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::sample::Sample;
    use crate::history::op::{Op, WorkerLog};

    fn judged(panics: Vec<String>) -> Verdict {
        let log = WorkerLog {
            worker: "w0".into(),
            lines: 9,
            panics,
        };
        check(&Facts::of(
            &Sample::default().with(1, Op::WorkerLog(log)).history(),
        ))
    }

    #[test]
    fn a_panic_is_a_violation_and_a_quiet_log_is_none() {
        assert!(judged(vec!["thread panicked at worker.rs:1".into()]).is_invalid());
        assert!(judged(vec![]).is_valid());
    }

    #[test]
    fn a_run_whose_logs_were_not_read_is_unknown() {
        assert_eq!(
            check(&Facts::of(&Sample::default().history())).word(),
            "unknown"
        );
    }
}
