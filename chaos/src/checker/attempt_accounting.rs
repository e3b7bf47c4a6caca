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
    if !may_lead_to(step).contains(&&*op.after.status) {
        return Some(format!("leaves the event {}", op.after.status));
    }
    if op.after != expected {
        return Some(format!("counts are {:?}, not {expected:?}", op.after));
    }
    (op.attempt != number).then(|| format!("attempt {}, not {number}", op.attempt))
}

/// The states in which a transition may leave its event. Whether it has earned to be dead is
/// `dead_when_earned`'s to judge, and whether it was delivered `settles_agree`'s.
const fn may_lead_to(step: Step) -> &'static [&'static str] {
    match step {
        Step::Accept | Step::Claim | Step::Release | Step::Replay => &["pending"],
        Step::Settle => &["pending", "delivered", "dead"],
        Step::Reclaim => &["pending", "dead"],
        Step::Cancel => &["dead"],
    }
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
    use crate::checker::said;
    use crate::checker::story::Story;
    use crate::history::op::{Op, State};

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

    fn is_valid(story: Story) -> bool {
        check(&Facts::of(&story.history())).is_valid()
    }

    #[test]
    fn a_final_read_that_counts_otherwise_is_a_violation_if_it_is_of_this_row() {
        let read = |id: &'static str| {
            Story::default().edit(move |_, op| {
                if let Op::State(state) = op {
                    (state.id, state.attempt_count) = (id.into(), Some(2));
                }
            })
        };
        assert_eq!(
            said(&CHECKER, &read("e").history()),
            "INVALID: 1 of 7 broken; event e: 2 attempts are counted, there were 3 (lines [21, 18])"
        );
        assert!(is_valid(read("of-the-same-ordinal")));
    }

    /// Claimed, handed back, claimed again and read.
    fn released(edit: impl Fn(&mut Transition)) -> Story {
        let state = |count| {
            let status = Some("dead".into());
            let attempt_count = Some(count);
            Op::State(State {
                status,
                attempt_count,
                ..State::unread(0, "e")
            })
        };
        let claimed = Story::accepted().then(20, Step::Claim, |_| {});
        let claimed = claimed
            .then(30, Step::Release, edit)
            .then(40, Step::Claim, |_| {});
        claimed.with(Story::END, state(1))
    }

    #[test]
    fn an_attempt_that_went_back_unsent_is_not_counted() {
        assert!(is_valid(released(|_| {})));
        assert!(!is_valid(released(|op| op.after.attempt_count = 1)));
        assert!(!is_valid(released(|op| op.after.failure_count = 1)));
        assert!(!is_valid(released(|op| op.attempt = 0)));
    }

    #[test]
    fn a_cancel_counts_nothing_and_a_replay_begins_a_round_in_which_nothing_has_failed() {
        let failed = || {
            let claimed = Story::accepted().then(20, Step::Claim, |_| {});
            let failed = claimed.then(30, Step::Settle, |op| op.after.failure_count = 1);
            let claimed = failed.then(40, Step::Claim, |_| {});
            claimed.then(50, Step::Reclaim, |op| op.after.abandon_count = 1)
        };
        let cancelled = |edit: fn(&mut Transition)| {
            failed().then(60, Step::Cancel, move |op| {
                // It ends no attempt.
                op.attempt = 0;
                op.after.status = "dead".into();
                edit(op);
            })
        };
        let replayed = |edit: fn(&mut Transition)| {
            is_valid(cancelled(|_| {}).then(70, Step::Replay, move |op| {
                op.attempt = 0;
                op.after.status = "pending".into();
                (
                    op.after.failure_count,
                    op.after.abandon_count,
                    op.after.round,
                ) = (0, 0, 1);
                edit(op);
            }))
        };
        assert!(is_valid(cancelled(|_| {})));
        assert!(!is_valid(cancelled(|op| op.after.failure_count += 1)));
        assert!(replayed(|_| {}));
        assert!(!replayed(|op| op.after.failure_count = 1));
        assert!(!replayed(|op| op.after.abandon_count = 1));
        assert!(!replayed(|op| op.after.round = 0));
        assert!(!replayed(|op| op.after.attempt_count += 1));
    }

    #[test]
    fn each_transition_leaves_its_event_in_a_state_that_it_can_lead_to() {
        let led_to = |step, status: &str| {
            let story = Story::accepted()
                .then(20, Step::Claim, |_| {})
                .then(30, step, |op| {
                    op.after.status = status.to_owned();
                    op.after.reason = (status == "dead").then(|| "as a test".into());
                    op.after.abandon_count = u32::from(step == Step::Reclaim);
                    op.after.failure_count =
                        u32::from(step == Step::Settle && status != "delivered");
                    op.after.round = u32::from(step == Step::Replay);
                });
            // A claim comes after a claim here, which is another's to judge.
            is_valid(story)
        };
        let all = ["pending", "delivered", "dead", "deleted"];
        for (step, may) in [
            (Step::Accept, [true, false, false, false]),
            (Step::Claim, [true, false, false, false]),
            (Step::Settle, [true, true, true, false]),
            (Step::Release, [true, false, false, false]),
            (Step::Reclaim, [true, false, true, false]),
            (Step::Cancel, [false, false, true, false]),
            (Step::Replay, [true, false, false, false]),
        ] {
            assert_eq!(all.map(|status| led_to(step, status)), may, "{step:?}");
        }
    }
}
