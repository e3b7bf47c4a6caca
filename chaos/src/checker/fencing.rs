//! Fencing: a settle or release changes a row only under the token that the row holds.
//!
//! The writer's token is the one that it showed (in Postgres: the one that it logged with its
//! attempt), the other is the row's own from just before. A release logs nothing: in Postgres only a
//! release of a row without a lease shows. A refused one changes no row; only the simulation tells it.

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
        for (step, at) in &row.steps {
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
    use crate::checker::story::Story;

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
}
