//! Every transition counts what the accounting table says, and every attempt ends in one way.
//!
//! The rows are replayed step by step from the table alone.

use super::{Checker, Examination, Kind, Verdict};
use crate::history::facts::{Facts, RowFacts, StepAt};
use crate::history::transition::{Counts, Step, Transition};

/// The register's entry.
pub const CHECKER: Checker = Checker {
    name: "attempt_accounting",
    invariant: "attempts, failures and abandonments are counted as the accounting table says",
    kind: Kind::Safety,
    check,
};

fn check(facts: &Facts<'_>) -> Verdict {
    let mut examination = Examination::default();
    for (id, row) in &facts.rows {
        let mut before = Counts::default();
        for step in &row.steps {
            examination.saw_one();
            let (kind, at) = step;
            if let Some(what) = miscounted(&before, *kind, at.op) {
                examination.broken(format!("event {id}, {kind:?}: {what}"), [at.seq]);
            }
            before.clone_from(&at.op.after);
        }
        if let Some((what, seqs)) = total(facts, row) {
            examination.broken(format!("event {id}: {what}"), seqs);
        }
    }
    examination.verdict("the store told no transition", "every row adds up".into())
}

fn miscounted(before: &Counts, step: Step, op: &Transition) -> Option<String> {
    let mut expected = Counts {
        status: op.after.status.clone(),
        reason: op.after.reason.clone(),
        ..before.clone()
    };
    let mut number = before.attempt_count;
    match step {
        Step::Accept => {}
        Step::Claim => {
            expected.attempt_count += 1;
            number += 1;
        }
        Step::Release => expected.attempt_count = before.attempt_count.saturating_sub(1),
        Step::Settle => {
            expected.abandon_count = 0;
            expected.failure_count += u32::from(op.after.status != "delivered");
        }
        Step::Reclaim => expected.abandon_count += 1,
        Step::Cancel => number = op.attempt,
        Step::Replay => {
            (expected.failure_count, expected.abandon_count) = (0, 0);
            expected.round += 1;
            number = op.attempt;
        }
    }
    if op.after != expected {
        return Some(format!("counts are {:?}, not {expected:?}", op.after));
    }
    (op.attempt != number).then(|| format!("attempt {}, not {number}", op.attempt))
}

/// `attempt_count` of the final read is claims less releases; a row that is still pending may have
/// gone on since it was read.
fn total(facts: &Facts<'_>, row: &RowFacts<'_>) -> Option<(String, [u64; 2])> {
    let state = facts.events.get(&row.ordinal?)?.state?;
    let state = Some(state).filter(|at| at.op.is_final())?;
    let (count, (_, last)) = (state.op.attempt_count?, row.last()?);
    let of = |kind| {
        row.steps
            .iter()
            .filter(|step: &&StepAt<'_>| step.0 == kind)
            .count()
    };
    let claims = of(Step::Claim).saturating_sub(of(Step::Release));
    // Two events of one ordinal have two rows; the read is of one of them.
    let same = state.op.id == last.op.id;
    (same && count as usize != claims).then(|| {
        let what = format!("{count} attempts are counted, there were {claims}");
        (what, [state.seq, last.seq])
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::story::Story;

    fn with(kind: Step, edit: impl Fn(&mut Transition)) -> Verdict {
        check(&Facts::of(
            &Story::default().edit_steps(kind, edit).history(),
        ))
    }

    #[test]
    fn a_failure_that_is_not_counted_is_a_violation() {
        assert!(with(Step::Settle, |op| op.after.failure_count = 0).is_invalid());
    }

    #[test]
    fn a_settle_that_counts_as_an_abandonment_is_a_violation() {
        assert!(with(Step::Settle, |op| op.after.abandon_count = 1).is_invalid());
    }

    #[test]
    fn a_reclaim_that_is_not_counted_is_a_violation() {
        assert!(with(Step::Reclaim, |op| op.after.abandon_count = 0).is_invalid());
    }

    #[test]
    fn an_attempt_number_that_is_not_the_count_is_a_violation() {
        assert!(with(Step::Claim, |op| op.attempt += 1).is_invalid());
    }

    #[test]
    fn a_final_read_that_counts_otherwise_is_a_violation() {
        let history = Story::default().edit(|_, op| {
            if let crate::history::op::Op::State(state) = op {
                state.attempt_count = Some(2);
            }
        });
        assert!(check(&Facts::of(&history.history())).is_invalid());
    }
}
