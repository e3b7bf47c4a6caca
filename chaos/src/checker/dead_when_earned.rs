//! An event is dead if and only if a rule of the contract ends it.
//!
//! `exhausted`: MAX_ATTEMPTS settled failures in the round. `gone`: a settled 410. `abandoned`:
//! MAX_ABANDONED consecutive reclaims. `cancelled`: an operator.

use super::declaration::{Checker, Need, Property, When};
use super::verdict::{Examination, Verdict};
use crate::history::facts::{Facts, RowFacts, StepAt};
use crate::history::transition::Step;
use crate::profile::Settings;

/// The declaration of this checker.
pub const CHECKER: Checker = Checker {
    name: "dead_when_earned",
    invariant: "an event is dead if and only if its attempts are used up, its target is gone or it was cancelled",
    property: Property::Safety,
    when: When::ALWAYS,
    needs: &[Need::Audit],
    check,
};

/// The status with which a target ends an event.
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
                wrongly_dead(facts, row, step, settings)
            } else {
                wrongly_pending(step, settings)
            };
            if let Some(what) = what {
                examination.broken(format!("event {id} {what}"), [step.1.seq]);
            }
        }
    }
    examination.verdict("no transition was recorded", format!("{dead} events are dead"))
}

fn wrongly_dead(
    facts: &Facts<'_>,
    row: &RowFacts<'_>,
    (step, at): &StepAt<'_>,
    settings: &Settings,
) -> Option<String> {
    let after = &at.op.after;
    // A 410 counts even if its body was cut off, but a request must have been received.
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
            "is dead ({}) by a {step:?} after {} failures and {} consecutive reclaims",
            after.reason.as_deref().unwrap_or("no reason"),
            after.failure_count,
            after.abandon_count,
        )
    })
}

fn wrongly_pending((_, at): &StepAt<'_>, settings: &Settings) -> Option<String> {
    let after = &at.op.after;
    if after.status != "pending" {
        return None;
    }
    let spent = after.failure_count >= settings.max_attempts
        || after.abandon_count >= settings.max_abandoned;
    spent.then(|| {
        format!(
            "is still pending after {} failures and {} consecutive reclaims",
            after.failure_count, after.abandon_count
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::story::Story;
    use crate::checker::verdict_line;
    use crate::history::op::Op;
    use crate::history::transition::Transition;

    fn with(kind: Step, edit: impl Fn(&mut Transition)) -> Verdict {
        check(&Facts::of(&Story::of_one_event().edit_steps(kind, edit).history()))
    }

    fn die(op: &mut Transition, reason: &str) {
        op.after.status = "dead".into();
        op.after.reason = Some(reason.into());
    }

    #[test]
    fn exhausted_needs_all_attempts() {
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
    fn abandoned_needs_all_reclaims() {
        let abandoned = |times| {
            with(Step::Reclaim, move |op| {
                die(op, "abandoned");
                op.after.abandon_count = times;
            })
        };
        assert!(abandoned(19).is_invalid());
        assert!(abandoned(20).is_valid());
    }

    /// The verdict if the first attempt gets this status and is settled as gone.
    fn gone_by(status: Option<u16>) -> Verdict {
        let story = Story::of_one_event().edit_steps(Step::Settle, |op| die(op, "gone"));
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
    fn gone_needs_a_410_or_an_incomplete_response() {
        assert!(gone_by(Some(500)).is_invalid());
        assert!(gone_by(Some(GONE)).is_valid());
        assert!(gone_by(None).is_valid());
        assert!(with(Step::Reclaim, |op| die(op, "gone")).is_invalid());
        let claimed = Story::accepted().then(20, Step::Claim, |_| {});
        let unsent = claimed.then(30, Step::Settle, |op| die(op, "gone"));
        assert!(check(&Facts::of(&unsent.history())).is_invalid());
    }

    #[test]
    fn cancelled_needs_an_operator() {
        let cancelled = |step| {
            let story = Story::accepted().then(20, step, |op| die(op, "cancelled"));
            verdict_line(&CHECKER, &story.history())
        };
        assert_eq!(cancelled(Step::Cancel), "valid: 2 examined, 1 events are dead");
        assert_eq!(
            cancelled(Step::Settle),
            "INVALID: 1 of 2 broken; event e is dead (cancelled) by a Settle after 0 failures and 0 \
             consecutive reclaims (lines [5])"
        );
    }

    #[test]
    fn death_without_a_reason_is_a_violation() {
        assert!(with(Step::Settle, |op| op.after.status = "dead".into()).is_invalid());
    }

    #[test]
    fn pending_event_without_attempts_left_is_a_violation() {
        let pending = |failures, abandons| {
            with(Step::Reclaim, move |op| {
                (op.after.failure_count, op.after.abandon_count) = (failures, abandons);
            })
        };
        assert!(pending(19, 19).is_valid());
        assert!(pending(20, 0).is_invalid());
        assert!(pending(0, 20).is_invalid());
        let delivered = Story::accepted().then(20, Step::Settle, |op| {
            op.after.status = "delivered".into();
            op.after.failure_count = 20;
        });
        assert!(check(&Facts::of(&delivered.history())).is_valid());
    }
}
