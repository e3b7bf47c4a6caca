//! A settle or release changes a row only with the lease token of the row.
//!
//! Each claim of an event has a new token, so a late settle differs from one in time. In Postgres,
//! the token of a settle is the one that it logged with its attempt. A release logs no token, so
//! Postgres shows only the release of a row without a lease. A refused statement changes no row, so
//! only the simulation records it.

use std::collections::BTreeSet;

use super::declaration::{Checker, Need, Property, When};
use super::verdict::{Examination, Verdict};
use crate::history::facts::Facts;
use crate::history::transition::{Step, Transition};

/// The declaration of this checker.
pub const CHECKER: Checker = Checker {
    name: "fencing",
    invariant: "no settle or release changes a row with another token or without a lease",
    property: Property::Safety,
    when: When::ALWAYS,
    needs: &[Need::Audit],
    check,
};

fn check(facts: &Facts<'_>) -> Verdict {
    let mut examination = Examination::default();
    for (id, row) in &facts.rows {
        let mut tokens = BTreeSet::new();
        for (step, at) in &row.steps {
            let token = at.op.token.as_deref();
            if *step == Step::Claim && !token.is_some_and(|token| tokens.insert(token)) {
                let what = format!(
                    "event {id}: claimed with the token {token:?}, which is missing or was used before"
                );
                examination.broken(what, [at.seq]);
            }
            if !matches!(step, Step::Settle | Step::Release) {
                continue;
            }
            examination.saw_one();
            if is_stale(*step, at.op) {
                let what = format!(
                    "event {id}: a {step:?} with token {:?} changed a row with token {:?}",
                    at.op.token, at.op.held
                );
                examination.broken(what, [at.seq]);
            }
        }
    }
    let note = format!("{} stale statements were refused", facts.store.fenced.len());
    examination.verdict("no settle or release was recorded", note)
}

fn is_stale(step: Step, op: &Transition) -> bool {
    match (step, &op.token) {
        (Step::Release, None) => op.held.is_none(),
        (_, token) => token.is_none() || *token != op.held,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::story::Story;
    use crate::checker::verdict_line;
    use crate::history::op::Op;
    use crate::history::transition::Fenced;

    #[test]
    fn settle_of_a_row_with_another_token_is_a_violation() {
        for held in [Some("other".to_owned()), None] {
            let story =
                Story::of_one_event().edit_steps(Step::Settle, |op| op.held.clone_from(&held));
            assert!(check(&Facts::of(&story.history())).is_invalid());
        }
    }

    #[test]
    fn settle_without_a_token_is_a_violation() {
        let story = Story::of_one_event().edit_steps(Step::Settle, |op| {
            (op.token, op.held) = (None, None);
        });
        assert!(check(&Facts::of(&story.history())).is_invalid());
    }

    #[test]
    fn claim_needs_a_new_token() {
        let claimed = |token: Option<&'static str>| {
            let story = Story::of_one_event().edit_steps(Step::Claim, |op| {
                if op.attempt == 3 {
                    op.token = token.map(str::to_owned);
                }
            });
            let settled = story.edit(|_, op| {
                // The last settle uses the token of the row.
                if let Op::Settle(op) = op
                    && op.attempt == 3
                {
                    (op.token, op.held) = (Some("t".into()), Some("t".into()));
                }
            });
            verdict_line(&CHECKER, &settled.history())
        };
        assert_eq!(claimed(Some("another")), "valid: 2 examined, 0 stale statements were refused");
        for token in [Some("t1"), None] {
            let what = format!(
                "event e: claimed with the token {token:?}, which is missing or was used before"
            );
            assert_eq!(claimed(token), format!("INVALID: 1 of 2 broken; {what} (lines [15])"));
        }
    }

    #[test]
    fn refused_statements_are_counted() {
        let refused = Fenced { id: "e".into(), token: "t1".into(), already: false };
        let story = Story::of_one_event().with(Story::END, Op::Fenced(refused));
        assert_eq!(
            verdict_line(&CHECKER, &story.history()),
            "valid: 2 examined, 1 stale statements were refused"
        );
    }

    #[test]
    fn release_needs_the_token_of_the_row() {
        let released = |token: Option<&'static str>, held: Option<&'static str>| {
            let claimed = Story::accepted().then(20, Step::Claim, |_| {});
            let story = claimed.then(30, Step::Release, |op| {
                (op.token, op.held) = (token.map(str::to_owned), held.map(str::to_owned));
            });
            check(&Facts::of(&story.history())).is_valid()
        };
        assert!(released(Some("t1"), Some("t1")));
        assert!(!released(Some("t1"), Some("t2")));
        // In Postgres, a release logs no token.
        assert!(released(None, Some("t1")));
        assert!(!released(None, None));
    }
}
