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

    #[test]
    fn a_row_too_few_or_in_no_state_is_a_violation() {
        for (rows, delivered) in [(0, 0), (1, 0), (2, 1)] {
            let story = Story::default().edit(move |_, op| {
                if let Op::Census(census) = op {
                    (census.rows, census.delivered) = (rows, delivered);
                }
            });
            assert!(check(&Facts::of(&story.history())).is_invalid());
        }
    }
}
