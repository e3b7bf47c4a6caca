//! Nothing disappears: whenever the rows are counted, there are as many as were accepted.

use super::{Checker, Examination, Kind, Verdict};
use crate::history::facts::Facts;

/// The register's entry.
pub const CHECKER: Checker = Checker {
    name: "conservation",
    invariant: "the rows of all states together are the events that were accepted",
    kind: Kind::Safety,
    check,
};

fn check(facts: &Facts<'_>) -> Verdict {
    let mut examination = Examination::default();
    for (census, accepted) in &facts.store.censuses {
        examination.saw_one();
        let op = census.op;
        let sum = op.pending + op.leased + op.delivered + op.dead;
        if op.rows != *accepted || sum != *accepted {
            let what = format!("{accepted} were accepted, {} are there: {op:?}", op.rows);
            examination.broken(what, [census.seq]);
        }
    }
    examination.verdict("the rows were never counted", "none is missing".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::story::Story;
    use crate::history::op::Op;
    use crate::history::transition::Census;

    /// What is said when there are so many rows, and so many of them in each state.
    fn counted(rows: u64, [pending, leased, delivered, dead]: [u64; 4]) -> &'static str {
        let counted = Census {
            rows,
            pending,
            leased,
            delivered,
            dead,
        };
        let story = Story::default().edit(move |_, op| {
            if let Op::Census(census) = op {
                *census = counted;
            }
        });
        check(&Facts::of(&story.history())).word()
    }

    #[test]
    fn one_row_in_any_state_is_what_was_accepted() {
        for state in 0..4 {
            let mut states = [0; 4];
            states[state] = 1;
            assert_eq!(counted(1, states), "valid", "{states:?}");
        }
    }

    #[test]
    fn a_row_too_few_or_too_many_or_in_no_state_is_a_violation() {
        let nowhere = [0; 4];
        let delivered = [0, 0, 1, 0];
        assert_eq!(counted(0, nowhere), "INVALID");
        assert_eq!(counted(1, nowhere), "INVALID");
        assert_eq!(counted(0, delivered), "INVALID");
        assert_eq!(counted(2, delivered), "INVALID");
        assert_eq!(counted(2, [1, 0, 1, 0]), "INVALID");
        assert_eq!(counted(1, [1, 0, 1, 0]), "INVALID");
    }

    #[test]
    fn a_story_in_which_nobody_counted_is_unknown() {
        let story = Story::default().without(|op| matches!(op, Op::Census(_)));
        assert_eq!(check(&Facts::of(&story.history())).word(), "unknown");
    }
}
