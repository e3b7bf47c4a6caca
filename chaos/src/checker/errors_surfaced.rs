//! No worker panicked or logged at level ERROR, whatever fault it met.
//!
//! The dispatcher logs ERROR only for events that no fault explains. An outage is a warning.

use super::declaration::{Checker, Property, When};
use super::verdict::{Examination, Verdict};
use crate::history::facts::Facts;

/// The declaration of this checker.
pub const CHECKER: Checker = Checker {
    name: "errors_surfaced",
    invariant: "no worker panicked or logged a line at level ERROR",
    property: Property::Safety,
    when: When::real_if("logs were read", |facts| !facts.logs.is_empty()),
    needs: &[],
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
    use crate::checker::story::Story;
    use crate::history::op::{Op, WorkerLog};

    fn judged(panics: Vec<String>, errors: Vec<String>) -> Verdict {
        let log = WorkerLog {
            worker: "w0".into(),
            lines: 9,
            panics,
            errors,
        };
        check(&Facts::of(
            &Story::of_four_events()
                .with(1, Op::WorkerLog(log))
                .history(),
        ))
    }

    #[test]
    fn panic_and_error_line_are_violations() {
        let one = |line: &str| vec![line.to_owned()];
        assert!(judged(one("thread panicked at worker.rs:1"), vec![]).is_invalid());
        assert!(judged(vec![], one("ERROR a result cannot be written")).is_invalid());
        let (examined, note) = (1, "9 lines of log".into());
        assert_eq!(judged(vec![], vec![]), Verdict::Valid { examined, note });
    }

    #[test]
    fn run_without_logs_is_unknown() {
        assert_eq!(
            check(&Facts::of(&Story::of_four_events().history())).word(),
            "unknown"
        );
    }
}
