//! Each worker warns if the clock of the database differs from its own, and only then.
//!
//! The warning must come within `WARNED_WITHIN_US` of the effect of a fault that moves the clock. A
//! fault that ended before demands nothing. A worker that is started later may warn again, because
//! the clock stays moved.

use std::collections::BTreeSet;

use super::declaration::{Checker, Property, When};
use super::verdict::{Examination, Verdict};
use crate::history::facts::{At, Facts, FaultFacts};
use crate::history::op::{ClockWarning, Section};

/// The declaration of this checker.
pub const CHECKER: Checker = Checker {
    name: "clock_reported",
    invariant: "a worker warns of the clock of the database if and only if that clock was moved",
    property: Property::Liveness,
    when: When::real_if("the clock of the database was moved, or a worker warned", is_exercised),
    needs: &[],
    check,
};

/// Maximum time from the step of a clock to the warning of each worker, in microseconds: two
/// comparisons, which are 10 s apart, and slack for a loaded machine.
const WARNED_WITHIN_US: u64 = 25_000_000;

fn is_exercised(facts: &Facts<'_>) -> bool {
    moved(facts).next().is_some() || !facts.clock_warnings.is_empty()
}

/// The faults that moved the clock.
fn moved<'a, 'h>(facts: &'a Facts<'h>) -> impl Iterator<Item = &'a FaultFacts<'h>> {
    facts.faults.iter().filter(|fault| fault.moves_a_clock() && fault.is_effective())
}

fn check(facts: &Facts<'_>) -> Verdict {
    let mut examination = Examination::default();
    let mut longest_us = 0;
    for fault in moved(facts) {
        let from_us = fault.effective_us();
        let deadline_us = from_us.saturating_add(WARNED_WITHIN_US);
        for worker in ready_at(facts, fault.start.t) {
            let warned = warned(facts, worker, fault.start.t);
            if let Some(at) = warned.filter(|at| at.t <= deadline_us) {
                examination.saw_one();
                longest_us = longest_us.max(at.t.saturating_sub(from_us));
            } else if warned.is_some() || fault.end_us.is_some_and(|end_us| end_us > deadline_us) {
                examination.saw_one();
                let within_s = WARNED_WITHIN_US / 1_000_000;
                let what = format!(
                    "{worker} did not warn of the clock of the database within {within_s} s"
                );
                let seqs = [Some(fault.start.seq), warned.map(|at| at.seq)];
                examination.broken(what, seqs.into_iter().flatten());
            }
        }
    }
    let first_us = moved(facts).map(|fault| fault.start.t).min().unwrap_or(u64::MAX);
    for at in facts.clock_warnings.iter().filter(|at| at.t < first_us) {
        examination.saw_one();
        let worker = &at.op.worker;
        let what = format!("{worker} warned of the clock of the database before it was moved");
        examination.broken(what, [at.seq]);
    }
    let note = format!("each worker warned within {} ms", longest_us / 1_000);
    examination.verdict("no worker had to warn", note)
}

/// The workers of the main section that were ready at some time before. Faults run one after the
/// other, so all of them run when a fault begins.
fn ready_at<'h>(facts: &Facts<'h>, before_us: u64) -> BTreeSet<&'h str> {
    let ready = facts.workers.iter().filter(|at| at.op.ready && at.t <= before_us);
    let main = ready.filter(|at| at.op.section == Section::Main);
    main.map(|at| at.op.worker.as_str()).collect()
}

/// The first warning of a worker since this time.
fn warned<'a, 'h>(
    facts: &'a Facts<'h>,
    worker: &str,
    since_us: u64,
) -> Option<&'a At<'h, ClockWarning>> {
    let mut warnings = facts.clock_warnings.iter();
    warnings.find(|at| at.op.worker == worker && at.t >= since_us)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::story::{SECOND, Story};
    use crate::checker::verdict_line;
    use crate::fault::Target;
    use crate::history::op::{FaultEffect, Op, WorkerSeen};
    use crate::nemesis::{ClockOffset, PausePostgres};

    /// Begin and effect of the fault, in seconds.
    const MOVED: u64 = 10;

    fn warning(story: Story, worker: &str, t: u64) -> Story {
        let line = "WARN the clocks differ".into();
        story.with(t, Op::ClockWarning(ClockWarning { worker: worker.into(), line }))
    }

    /// A run with two ready workers and one at default settings.
    fn ready() -> Story {
        let workers =
            [("w0", Section::Main), ("w1", Section::Main), ("defaults", Section::Defaults)];
        workers.into_iter().fold(Story::accepted(), |story, (worker, section)| {
            let seen = WorkerSeen { worker: worker.into(), section, ready: true, pid: None };
            story.with(1, Op::Worker(seen))
        })
    }

    /// The clock is moved at second 10, and the fault ends at this second.
    fn moved_until(end: u64, is_effective: bool) -> Story {
        let effect = FaultEffect {
            fault: MOVED * SECOND,
            effective_us: MOVED * SECOND,
            hit: vec![],
            observed: is_effective.then(|| "seen".into()),
        };
        ready()
            .with_fault(ClockOffset::KIND, Target::Postgres, MOVED * SECOND..end * SECOND)
            .with(MOVED * SECOND + 1, Op::FaultEffect(effect))
    }

    fn judged(story: Story) -> String {
        verdict_line(&CHECKER, &story.history())
    }

    #[test]
    fn warnings_of_all_workers_in_time_are_valid() {
        let story = warning(moved_until(36, true), "w0", 12 * SECOND);
        let story = warning(story, "w1", MOVED * SECOND + WARNED_WITHIN_US);
        assert_eq!(judged(story), "valid: 2 examined, each worker warned within 25000 ms");
    }

    #[test]
    fn late_or_absent_warning_is_invalid() {
        let one = || warning(moved_until(36, true), "w0", 12 * SECOND);
        let absent = judged(one());
        let what = "1 of 2 broken; w1 did not warn of the clock of the database within 25 s";
        assert!(absent.starts_with("INVALID") && absent.contains(what), "{absent}");
        let late = judged(warning(one(), "w1", MOVED * SECOND + WARNED_WITHIN_US + 1));
        assert!(late.starts_with("INVALID") && late.contains(what), "{late}");
        let before = judged(warning(one(), "w1", MOVED * SECOND - 1));
        assert!(before.contains("2 of 3 broken"), "{before}");
    }

    #[test]
    fn fault_that_ends_early_demands_no_warning() {
        let unknown = "unknown: 0 examined, no worker had to warn";
        assert_eq!(judged(moved_until(35, true)), unknown);
        assert_eq!(judged(moved_until(36, false)), unknown);
        let paused = ready().with_fault(PausePostgres::KIND, Target::Postgres, SECOND..40 * SECOND);
        assert_eq!(judged(paused), unknown);
    }

    #[test]
    fn warning_without_a_moved_clock_is_invalid() {
        let line = judged(warning(ready(), "w0", 5 * SECOND));
        assert!(
            line.contains("w0 warned of the clock of the database before it was moved"),
            "{line}"
        );
        assert!(!is_exercised(&Facts::of(&ready().history())));
        assert!(is_exercised(&Facts::of(&warning(ready(), "w0", 5 * SECOND).history())));
        assert!(is_exercised(&Facts::of(&moved_until(12, true).history())));
    }

    // The clock stays moved, so a worker that starts later warns at its start.
    #[test]
    fn further_warnings_after_a_step_are_permitted() {
        let story = warning(moved_until(36, true), "w0", 12 * SECOND);
        let story = warning(warning(story, "w1", 13 * SECOND), "w1", 50 * SECOND);
        assert!(judged(story).starts_with("valid"));
    }
}
