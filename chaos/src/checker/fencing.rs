//! Fencing: a settle or release changes a row only under the token that the row holds, and each claim of
//! an event has a token of its own, or a late settle could not be told from one in time.
//!
//! The writer's token is the one that it showed (in Postgres: the one that it logged with its
//! attempt), the other is the row's own from just before. A release logs nothing: in Postgres only a
//! release of a row without a lease shows. A refused one changes no row; only the simulation tells it.

use std::collections::BTreeSet;

use super::{Checker, Examination, Kind, Verdict};
use crate::history::facts::Facts;
use crate::history::transition::{Step, Transition};

/// The register's entry.
pub const CHECKER: Checker = Checker {
    name: "fencing",
    invariant: "no settle and no release changes a row that holds another token, or none",
    kind: Kind::Safety,
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
                    "event {id}: claimed under the token {token:?}, which is none or was used before"
                );
                examination.broken(what, [at.seq]);
            }
            if !matches!(step, Step::Settle | Step::Release) {
                continue;
            }
            examination.saw_one();
            if is_stale(*step, at.op) {
                let what = format!(
                    "event {id}: a {step:?} under token {:?}, the row held {:?}",
                    at.op.token, at.op.held
                );
                examination.broken(what, [at.seq]);
            }
        }
    }
    let note = format!("{} stale ones were refused", facts.store.fenced.len());
    examination.verdict("the store told no settle and no release", note)
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
    use crate::checker::said;
    use crate::checker::story::Story;
    use crate::history::op::Op;
    use crate::history::transition::Fenced;

    #[test]
    fn a_settle_under_another_token_or_none_is_a_violation() {
        for held in [Some("other".to_owned()), None] {
            let story = Story::default().edit_steps(Step::Settle, |op| op.held.clone_from(&held));
            assert!(check(&Facts::of(&story.history())).is_invalid());
        }
    }

    #[test]
    fn a_settle_that_shows_no_token_is_a_violation() {
        let story = Story::default().edit_steps(Step::Settle, |op| {
            (op.token, op.held) = (None, None);
        });
        assert!(check(&Facts::of(&story.history())).is_invalid());
    }

    #[test]
    fn a_claim_without_a_token_or_under_one_that_was_used_before_is_a_violation() {
        let claimed = |token: Option<&'static str>| {
            let story = Story::default().edit_steps(Step::Claim, |op| {
                if op.attempt == 3 {
                    op.token = token.map(str::to_owned);
                }
            });
            let settled = story.edit(|_, op| {
                // The last settle shows what the row holds.
                if let Op::Settle(op) = op
                    && op.attempt == 3
                {
                    (op.token, op.held) = (Some("t".into()), Some("t".into()));
                }
            });
            said(&CHECKER, &settled.history())
        };
        assert_eq!(
            claimed(Some("another")),
            "valid: 2 examined, 0 stale ones were refused"
        );
        for token in [Some("t1"), None] {
            let what = format!(
                "event e: claimed under the token {token:?}, which is none or was used before"
            );
            assert_eq!(
                claimed(token),
                format!("INVALID: 1 of 2 broken; {what} (lines [15])")
            );
        }
    }

    #[test]
    fn what_was_refused_is_counted() {
        let refused = Fenced {
            id: "e".into(),
            token: "t1".into(),
            already: false,
        };
        let story = Story::default().with(Story::END, Op::Fenced(refused));
        assert_eq!(
            said(&CHECKER, &story.history()),
            "valid: 2 examined, 1 stale ones were refused"
        );
    }

    #[test]
    fn a_release_of_a_row_under_another_token_or_without_a_lease_is_a_violation() {
        let released = |token: Option<&'static str>, held: Option<&'static str>| {
            let claimed = Story::accepted().then(20, Step::Claim, |_| {});
            let story = claimed.then(30, Step::Release, |op| {
                (op.token, op.held) = (token.map(str::to_owned), held.map(str::to_owned));
            });
            check(&Facts::of(&story.history())).is_valid()
        };
        assert!(released(Some("t1"), Some("t1")));
        assert!(!released(Some("t1"), Some("t2")));
        // In Postgres, a release tells no token.
        assert!(released(None, Some("t1")));
        assert!(!released(None, None));
    }
}
