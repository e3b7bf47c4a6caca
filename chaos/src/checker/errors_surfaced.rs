//! No worker panicked, and no worker logged at level ERROR without a fault that requires it.
//!
//! The dispatcher logs ERROR only if a person must act, such as for a row that an operator broke.
//! An outage is a warning. If a fault requires ERROR lines, at least one must be logged.

use super::declaration::{Checker, Property, When};
use super::verdict::{Examination, Verdict};
use crate::history::facts::Facts;

/// The declaration of this checker.
pub const CHECKER: Checker = Checker {
    name: "errors_surfaced",
    invariant: "no worker panicked, and ERROR is logged if and only if a fault requires it",
    property: Property::Safety,
    when: When::real_if("logs were read", |facts| !facts.logs.is_empty()),
    needs: &[],
    check,
};

fn check(facts: &Facts<'_>) -> Verdict {
    let mut examination = Examination::default();
    let mut lines = 0;
    let mut faults = facts.faults.iter();
    let required = faults.find(|fault| fault.logs_errors() && fault.is_effective());
    for log in &facts.logs {
        examination.saw_one();
        lines += log.op.lines;
        let errors = log.op.errors.iter().filter(|_| required.is_none());
        for line in log.op.panics.iter().chain(errors) {
            examination.broken(format!("{}: {line}", log.op.worker), [log.seq]);
        }
    }
    let logged = facts.logs.iter().any(|log| !log.op.errors.is_empty());
    if let Some(fault) = required.filter(|_| !logged && !facts.logs.is_empty()) {
        let what = format!("no worker logged {} at level ERROR", fault.name());
        examination.broken(what, [fault.start.seq]);
    }
    examination.verdict("no log was read", format!("{lines} lines of log"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::story::{SECOND, Story};
    use crate::fault::Target;
    use crate::history::op::{FaultEffect, Op, WorkerLog};
    use crate::nemesis::PoisonRow;

    fn judged(panics: Vec<String>, errors: Vec<String>) -> Verdict {
        let log = WorkerLog { worker: "w0".into(), lines: 9, panics, errors };
        check(&Facts::of(&Story::of_four_events().with(1, Op::WorkerLog(log)).history()))
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
    fn fault_that_requires_an_error_line_excuses_it_and_no_panic() {
        let judged = |effective: bool, panics: &[&str], errors: &[&str]| {
            let text = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect();
            let log = WorkerLog {
                worker: "w0".into(),
                lines: 9,
                panics: text(panics),
                errors: text(errors),
            };
            let effect = FaultEffect {
                fault: SECOND,
                effective_us: SECOND,
                hit: vec![],
                observed: effective.then(|| "as a test".into()),
            };
            let story = Story::of_four_events()
                .with_fault(PoisonRow::KIND, Target::Postgres, SECOND..2 * SECOND)
                .with(2 * SECOND, Op::FaultEffect(effect))
                .with(3 * SECOND, Op::WorkerLog(log));
            check(&Facts::of(&story.history())).word()
        };
        let line = &["ERROR a row has an attempt that is recorded already"];
        assert_eq!(judged(true, &[], line), "valid");
        assert_eq!(judged(true, &[], &[]), "INVALID");
        assert_eq!(judged(true, &["panicked"], line), "INVALID");
        assert_eq!(judged(false, &[], line), "INVALID");
        assert_eq!(judged(false, &[], &[]), "valid");
    }

    #[test]
    fn run_without_logs_is_unknown() {
        assert_eq!(check(&Facts::of(&Story::of_four_events().history())).word(), "unknown");
    }
}
