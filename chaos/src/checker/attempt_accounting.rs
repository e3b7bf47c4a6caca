//! Each transition changes the counters as the accounting table in `docs/state-machine.md` states.
//!
//! The checker replays each row from its transitions and compares every counter.

use super::declaration::{Checker, Need, Property, When};
use super::verdict::{Examination, Verdict};
use crate::history::facts::{Facts, RowFacts, StepAt};
use crate::history::transition::{Counts, Step, Transition};

/// The declaration of this checker.
pub const CHECKER: Checker = Checker {
    name: "attempt_accounting",
    invariant: "attempts, failures and abandonments are counted as the accounting table says",
    property: Property::Safety,
    when: When::ALWAYS,
    needs: &[Need::Audit],
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
        if let Some((what, seqs)) = wrong_total(facts, row) {
            examination.broken(format!("event {id}: {what}"), seqs);
        }
    }
    examination.verdict("no transition was recorded", "every row adds up".into())
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
    if !next_states(step).contains(&&*op.after.status) {
        return Some(format!("the event must not become {}", op.after.status));
    }
    if op.after != expected {
        return Some(format!("the counters are {:?}, expected {expected:?}", op.after));
    }
    (op.attempt != number).then(|| format!("the attempt is {}, expected {number}", op.attempt))
}

/// Returns the states that may follow a transition. `dead_when_earned` judges whether the event may
/// be dead, and `settles_agree` whether it was delivered.
const fn next_states(step: Step) -> &'static [&'static str] {
    match step {
        Step::Accept | Step::Claim | Step::Release | Step::Replay => &["pending"],
        Step::Settle => &["pending", "delivered", "dead"],
        Step::Reclaim => &["pending", "dead"],
        Step::Cancel => &["dead"],
    }
}

/// Compares `attempt_count` of the final read with claims minus releases. A pending row is skipped,
/// because it may have changed after the read.
fn wrong_total(facts: &Facts<'_>, row: &RowFacts<'_>) -> Option<(String, [u64; 2])> {
    let state = facts.events.get(&row.ordinal?)?.state?;
    let state = Some(state).filter(|at| at.op.is_final())?;
    let (count, (_, last)) = (state.op.attempt_count?, row.last()?);
    let of = |kind| row.steps.iter().filter(|step: &&StepAt<'_>| step.0 == kind).count();
    let claims = of(Step::Claim).saturating_sub(of(Step::Release));
    // Two events of one ordinal have two rows, and the read shows one of them.
    let same = state.op.id == last.op.id;
    (same && count as usize != claims).then(|| {
        let what = format!("attempt_count is {count}, and {claims} claims were not released");
        (what, [state.seq, last.seq])
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::story::Story;
    use crate::checker::verdict_line;
    use crate::history::op::{Op, State};

    fn with(kind: Step, edit: impl Fn(&mut Transition)) -> Verdict {
        check(&Facts::of(&Story::of_one_event().edit_steps(kind, edit).history()))
    }

    #[test]
    fn uncounted_failure_is_a_violation() {
        assert!(with(Step::Settle, |op| op.after.failure_count = 0).is_invalid());
    }

    #[test]
    fn settle_counted_as_abandonment_is_a_violation() {
        assert!(with(Step::Settle, |op| op.after.abandon_count = 1).is_invalid());
    }

    #[test]
    fn uncounted_reclaim_is_a_violation() {
        assert!(with(Step::Reclaim, |op| op.after.abandon_count = 0).is_invalid());
    }

    #[test]
    fn attempt_number_other_than_the_count_is_a_violation() {
        assert!(with(Step::Claim, |op| op.attempt += 1).is_invalid());
    }

    fn is_valid(story: Story) -> bool {
        check(&Facts::of(&story.history())).is_valid()
    }

    #[test]
    fn final_read_of_the_row_must_agree_with_its_claims() {
        let read = |id: &'static str| {
            Story::of_one_event().edit(move |_, op| {
                if let Op::State(state) = op {
                    (state.id, state.attempt_count) = (id.into(), Some(2));
                }
            })
        };
        assert_eq!(
            verdict_line(&CHECKER, &read("e").history()),
            "INVALID: 1 of 7 broken; event e: attempt_count is 2, and 3 claims were not released (lines [21, 18])"
        );
        assert!(is_valid(read("of-the-same-ordinal")));
    }

    /// An event that is claimed, released, claimed again and read.
    fn released(edit: impl Fn(&mut Transition)) -> Story {
        let state = |count| {
            let status = Some("dead".into());
            let attempt_count = Some(count);
            Op::State(State { status, attempt_count, ..State::unread(0, "e") })
        };
        let claimed = Story::accepted().then(20, Step::Claim, |_| {});
        let claimed = claimed.then(30, Step::Release, edit).then(40, Step::Claim, |_| {});
        claimed.with(Story::END, state(1))
    }

    #[test]
    fn released_claim_is_not_counted() {
        assert!(is_valid(released(|_| {})));
        assert!(!is_valid(released(|op| op.after.attempt_count = 1)));
        assert!(!is_valid(released(|op| op.after.failure_count = 1)));
        assert!(!is_valid(released(|op| op.attempt = 0)));
    }

    #[test]
    fn cancel_counts_nothing_and_replay_resets_the_failures() {
        let failed = || {
            let claimed = Story::accepted().then(20, Step::Claim, |_| {});
            let failed = claimed.then(30, Step::Settle, |op| op.after.failure_count = 1);
            let claimed = failed.then(40, Step::Claim, |_| {});
            claimed.then(50, Step::Reclaim, |op| op.after.abandon_count = 1)
        };
        let cancelled = |edit: fn(&mut Transition)| {
            failed().then(60, Step::Cancel, move |op| {
                // A cancel ends no attempt here.
                op.attempt = 0;
                op.after.status = "dead".into();
                edit(op);
            })
        };
        let replayed = |edit: fn(&mut Transition)| {
            is_valid(cancelled(|_| {}).then(70, Step::Replay, move |op| {
                op.attempt = 0;
                op.after.status = "pending".into();
                (op.after.failure_count, op.after.abandon_count, op.after.round) = (0, 0, 1);
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
    fn each_transition_leads_only_to_its_next_states() {
        let is_next = |step, status: &str| {
            let story = Story::accepted().then(20, Step::Claim, |_| {}).then(30, step, |op| {
                op.after.status = status.to_owned();
                op.after.reason = (status == "dead").then(|| "as a test".into());
                op.after.abandon_count = u32::from(step == Step::Reclaim);
                op.after.failure_count = u32::from(step == Step::Settle && status != "delivered");
                op.after.round = u32::from(step == Step::Replay);
            });
            // A claim may follow a claim here: `lease_exclusion` judges that.
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
            assert_eq!(all.map(|status| is_next(step, status)), may, "{step:?}");
        }
    }
}
