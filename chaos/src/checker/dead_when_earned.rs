//! An event is dead only when it has earned it, and then it is dead.
//!
//! `exhausted`: the budget of settled failures of this round; `gone`: a settled 410; `abandoned`: the
//! budget of abandonments in a row; `cancelled`: an operator.

use super::{Checker, Examination, Kind, Verdict};
use crate::history::facts::{Facts, RowFacts, StepAt};
use crate::history::transition::Step;
use crate::profile::Settings;

/// The register's entry.
pub const CHECKER: Checker = Checker {
    name: "dead_when_earned",
    invariant: "an event is dead if, and only if, its budget is spent, its target is gone or it was cancelled",
    kind: Kind::Safety,
    check,
};

/// The status by which a target ends an event.
const GONE: u16 = 410;

fn check(facts: &Facts<'_>) -> Verdict {
    let mut examination = Examination::default();
    let mut dead = 0_u64;
    for (id, row) in &facts.rows {
        let Some(settings) = facts.settings_of(row) else {
            continue;
        };
        for step in &row.steps {
            examination.saw_one();
            let is_dead = step.1.op.after.status == "dead";
            dead += u64::from(is_dead);
            let what = if is_dead {
                unearned(facts, row, step, settings)
            } else {
                overdrawn(step, settings)
            };
            if let Some(what) = what {
                examination.broken(format!("event {id} {what}"), [step.1.seq]);
            }
        }
    }
    examination.verdict("the store told no transition", format!("{dead} are dead"))
}

fn unearned(
    facts: &Facts<'_>,
    row: &RowFacts<'_>,
    (step, at): &StepAt<'_>,
    settings: &Settings,
) -> Option<String> {
    let after = &at.op.after;
    // A 410 whose body is too long is gone, too; then no whole answer was written. But one was asked.
    let may_be_gone = facts.receipt(row, at.op.attempt).is_some_and(|receipt| {
        let status = receipt.end.and_then(|end| end.op.status);
        status.is_none_or(|status| status == GONE)
    });
    let (earned, step_is_right) = match after.reason.as_deref() {
        Some("exhausted") => (after.failure_count == settings.max_attempts, Step::Settle),
        Some("gone") => (may_be_gone, Step::Settle),
        Some("abandoned") => (after.abandon_count == settings.max_abandoned, Step::Reclaim),
        Some("cancelled") => (true, Step::Cancel),
        _ => (false, *step),
    };
    (!earned || *step != step_is_right).then(|| {
        format!(
            "is dead ({}) by a {step:?} after {} failures and {} abandonments in a row",
            after.reason.as_deref().unwrap_or("no reason"),
            after.failure_count,
            after.abandon_count,
        )
    })
}

fn overdrawn((_, at): &StepAt<'_>, settings: &Settings) -> Option<String> {
    let after = &at.op.after;
    if after.status != "pending" {
        return None;
    }
    let spent = after.failure_count >= settings.max_attempts
        || after.abandon_count >= settings.max_abandoned;
    spent.then(|| {
        format!(
            "lives on after {} failures and {} abandonments in a row",
            after.failure_count, after.abandon_count
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::said;
    use crate::checker::story::Story;
    use crate::history::op::Op;
    use crate::history::transition::Transition;

    fn with(kind: Step, edit: impl Fn(&mut Transition)) -> Verdict {
        check(&Facts::of(
            &Story::default().edit_steps(kind, edit).history(),
        ))
    }

    fn die(op: &mut Transition, reason: &str) {
        op.after.status = "dead".into();
        op.after.reason = Some(reason.into());
    }

    #[test]
    fn exhausted_before_the_budget_is_a_violation_and_with_it_is_none() {
        let exhausted = |failures| {
            with(Step::Settle, move |op| {
                die(op, "exhausted");
                op.after.failure_count = failures;
            })
        };
        assert!(exhausted(19).is_invalid());
        assert!(exhausted(20).is_valid());
        assert!(exhausted(21).is_invalid());
    }

    #[test]
    fn abandoned_before_the_budget_is_a_violation_and_with_it_is_none() {
        let abandoned = |times| {
            with(Step::Reclaim, move |op| {
                die(op, "abandoned");
                op.after.abandon_count = times;
            })
        };
        assert!(abandoned(19).is_invalid());
        assert!(abandoned(20).is_valid());
    }

    /// The first attempt is answered so, and settled as gone.
    fn gone_by(status: Option<u16>) -> Verdict {
        let story = Story::default().edit_steps(Step::Settle, |op| die(op, "gone"));
        let answered = story.edit(|_, op| {
            if let Op::RecvEnd(end) = op
                && end.status == Some(500)
            {
                end.status = status;
            }
        });
        check(&Facts::of(&answered.history()))
    }

    #[test]
    fn gone_needs_a_410_or_an_answer_that_was_not_written_whole() {
        assert!(gone_by(Some(500)).is_invalid());
        assert!(gone_by(Some(GONE)).is_valid());
        assert!(gone_by(None).is_valid());
        assert!(with(Step::Reclaim, |op| die(op, "gone")).is_invalid());
        let claimed = Story::accepted().then(20, Step::Claim, |_| {});
        let unsent = claimed.then(30, Step::Settle, |op| die(op, "gone"));
        assert!(check(&Facts::of(&unsent.history())).is_invalid());
    }

    #[test]
    fn cancelled_is_what_an_operator_did_and_nobody_else() {
        let cancelled = |step| {
            let story = Story::accepted().then(20, step, |op| die(op, "cancelled"));
            said(&CHECKER, &story.history())
        };
        assert_eq!(cancelled(Step::Cancel), "valid: 2 examined, 1 are dead");
        assert_eq!(
            cancelled(Step::Settle),
            "INVALID: 1 of 2 broken; event e is dead (cancelled) by a Settle after 0 failures and 0 \
             abandonments in a row (lines [5])"
        );
    }

    #[test]
    fn dead_without_a_reason_is_a_violation() {
        assert!(with(Step::Settle, |op| op.after.status = "dead".into()).is_invalid());
    }

    #[test]
    fn living_on_with_a_budget_spent_is_a_violation_and_being_delivered_is_none() {
        let lives = |failures, abandons| {
            with(Step::Reclaim, move |op| {
                (op.after.failure_count, op.after.abandon_count) = (failures, abandons);
            })
        };
        assert!(lives(19, 19).is_valid());
        assert!(lives(20, 0).is_invalid());
        assert!(lives(0, 20).is_invalid());
        let delivered = Story::accepted().then(20, Step::Settle, |op| {
            op.after.status = "delivered".into();
            op.after.failure_count = 20;
        });
        assert!(check(&Facts::of(&delivered.history())).is_valid());
    }
}
