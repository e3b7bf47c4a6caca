//! Leases are measured by one clock: the database's, however far the workers' clocks are off.
//!
//! A lease lasts, from the transaction that made it, for the setting's length to the microsecond. The
//! other invariants of leases and due times hold under skew by their own checkers.

use super::{Checker, Examination, Kind, Verdict};
use crate::history::facts::Facts;
use crate::history::transition::Step;

/// The register's entry.
pub const CHECKER: Checker = Checker {
    name: "clock_safety",
    invariant: "every lease is as long as the setting says, on the database's clock",
    kind: Kind::Safety,
    check,
};

fn check(facts: &Facts<'_>) -> Verdict {
    let mut examination = Examination::default();
    for (id, row) in &facts.rows {
        let Some(settings) = facts.settings_of(row) else {
            continue;
        };
        let lease_us = i64::try_from(settings.lease_ms * 1_000).unwrap_or(i64::MAX);
        for (step, at) in &row.steps {
            if *step != Step::Claim {
                continue;
            }
            examination.saw_one();
            let lasts = at.op.lease_until_us.map(|until| until - at.op.now_us);
            if lasts != Some(lease_us) {
                let what = format!("event {id}: a lease of {lasts:?} us, not {lease_us}");
                examination.broken(what, [at.seq]);
            }
        }
    }
    let moved = facts.faults.iter().filter(|fault| fault.moves_a_clock());
    let note = format!("{} faults moved the database's clock", moved.count());
    examination.verdict("the store told no claim", note)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::story::Story;

    #[test]
    fn a_lease_by_another_clock_is_a_violation() {
        for off_us in [-1, 1] {
            let story = Story::default().edit_steps(Step::Claim, |op| {
                op.lease_until_us = op.lease_until_us.map(|until| until + off_us);
            });
            assert!(check(&Facts::of(&story.history())).is_invalid());
        }
    }
}
