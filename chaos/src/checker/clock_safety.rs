//! Leases are measured on the database clock, whatever the clocks of the workers show.
//!
//! A lease ends exactly `LEASE_SECONDS` after the transaction of its claim. Other checkers judge
//! leases and due times under clock faults.

use super::declaration::{Checker, Need, Property, When};
use super::verdict::{Examination, Verdict};
use crate::history::facts::Facts;
use crate::history::transition::Step;

/// The declaration of this checker.
pub const CHECKER: Checker = Checker {
    name: "clock_safety",
    invariant: "every lease lasts LEASE_SECONDS on the database clock",
    property: Property::Safety,
    when: When::ALWAYS,
    needs: &[Need::Audit],
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
                let what = format!("event {id}: a lease of {lasts:?} us, expected {lease_us} us");
                examination.broken(what, [at.seq]);
            }
        }
    }
    let moved = facts.faults.iter().filter(|fault| fault.moves_a_clock());
    let note = format!("{} faults moved the database clock", moved.count());
    examination.verdict("no claim was recorded", note)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::story::Story;

    #[test]
    fn lease_of_another_length_is_a_violation() {
        for off_us in [-1, 1] {
            let story = Story::of_one_event().edit_steps(Step::Claim, |op| {
                op.lease_until_us = op.lease_until_us.map(|until| until + off_us);
            });
            assert!(check(&Facts::of(&story.history())).is_invalid());
        }
    }
}
