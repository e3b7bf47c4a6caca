//! No row disappears: each count of the rows equals the number of accepted events so far.

use super::declaration::{Checker, Need, Property, When};
use super::verdict::{Examination, Verdict};
use crate::history::facts::Facts;

/// The declaration of this checker.
pub const CHECKER: Checker = Checker {
    name: "conservation",
    invariant: "the rows of all states together are the events that were accepted",
    property: Property::Safety,
    when: When::ALWAYS,
    needs: &[Need::Audit],
    check,
};

fn check(facts: &Facts<'_>) -> Verdict {
    let mut examination = Examination::default();
    for (census, accepted) in &facts.store.censuses {
        examination.saw_one();
        let op = census.op;
        let sum = op.pending + op.leased + op.delivered + op.dead;
        if op.rows != *accepted || sum != *accepted {
            let what =
                format!("{accepted} events were accepted, and there are {} rows: {op:?}", op.rows);
            examination.broken(what, [census.seq]);
        }
    }
    examination.verdict("the rows were never counted", "no row is missing".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::story::Story;
    use crate::history::op::Op;
    use crate::history::transition::Census;

    /// The verdict on a count of this many rows, of which this many are in each state.
    fn counted(rows: u64, [pending, leased, delivered, dead]: [u64; 4]) -> &'static str {
        let counted = Census { rows, pending, leased, delivered, dead };
        let story = Story::of_one_event().edit(move |_, op| {
            if let Op::Census(census) = op {
                *census = counted;
            }
        });
        check(&Facts::of(&story.history())).word()
    }

    #[test]
    fn one_row_in_any_state_equals_one_accepted_event() {
        for state in 0..4 {
            let mut states = [0; 4];
            states[state] = 1;
            assert_eq!(counted(1, states), "valid", "{states:?}");
        }
    }

    #[test]
    fn missing_row_and_extra_row_are_violations() {
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
    fn history_without_a_count_is_unknown() {
        let story = Story::of_one_event().without(|op| matches!(op, Op::Census(_)));
        assert_eq!(check(&Facts::of(&story.history())).word(), "unknown");
    }
}
