//! The leases of an event do not overlap, and no lease of a running worker is ended early.
//!
//! Before a lease expires on the database clock, only its worker may end it, unless a fault killed
//! the worker or cut its presence. An event without a lease cannot be reclaimed.

use super::declaration::{Checker, Need, Property, When};
use super::verdict::{Examination, Verdict};
use crate::history::facts::{At, Facts};
use crate::history::transition::{Step, Transition};

/// The declaration of this checker.
pub const CHECKER: Checker = Checker {
    name: "lease_exclusion",
    invariant: "no event has two leases, and only its worker or the end of its worker ends a lease early",
    property: Property::Safety,
    when: When::ALWAYS,
    needs: &[Need::Audit],
    check,
};

fn check(facts: &Facts<'_>) -> Verdict {
    let mut examination = Examination::default();
    let mut early = 0_u64;
    for (id, row) in &facts.rows {
        let mut open: Option<At<'_, Transition>> = None;
        for (step, at) in &row.steps {
            match step {
                Step::Claim => {
                    examination.saw_one();
                    if let Some(first) = open.replace(*at) {
                        let what = format!("event {id} was claimed while it had a lease");
                        examination.broken(what, [first.seq, at.seq]);
                    }
                }
                Step::Reclaim => {
                    let Some(claim) = open.take() else {
                        let what = format!("event {id} was reclaimed and had no lease");
                        examination.broken(what, [at.seq]);
                        continue;
                    };
                    if at.op.is_early() {
                        early += 1;
                        if !holder_was_hit(facts, *at) {
                            let what = format!(
                                "the lease of event {id} was ended early, and no fault hit its worker"
                            );
                            examination.broken(what, [claim.seq, at.seq]);
                        }
                    }
                }
                step if step.ends_a_lease() => open = None,
                _ => {}
            }
        }
    }
    examination.verdict("no claim was recorded", format!("{early} leases ended with their worker"))
}

fn holder_was_hit(facts: &Facts<'_>, reclaim: At<'_, Transition>) -> bool {
    let holder = reclaim.op.holder.as_deref().unwrap_or_default();
    let mut faults = facts.faults.iter();
    faults.any(|fault| {
        fault.start.t <= reclaim.t && fault.may_end_presence() && fault.may_concern(holder)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::story::Story;
    use crate::checker::story::ops::{links, process};
    use crate::checker::verdict_line;
    use crate::history::op::{FaultStart, Op};
    use crate::nemesis::{BlackHole, KillWorker};

    #[test]
    fn claim_during_another_lease_is_a_violation() {
        let story = Story::of_one_event().without(|op| matches!(op, Op::Reclaim(_)));
        assert_eq!(
            verdict_line(&CHECKER, &story.history()),
            "INVALID: 1 of 3 broken; event e was claimed while it had a lease (lines [9, 14])"
        );
    }

    #[test]
    fn claim_after_the_end_of_a_lease_is_legal() {
        for end in [Step::Settle, Step::Release, Step::Cancel] {
            let claimed = Story::accepted().then(20, Step::Claim, |_| {});
            let story = claimed.then(30, end, |_| {}).then(40, Step::Claim, |_| {});
            assert!(check(&Facts::of(&story.history())).is_valid(), "{end:?}");
        }
        let claimed = Story::accepted().then(20, Step::Claim, |_| {});
        let story = claimed.then(30, Step::Replay, |_| {}).then(40, Step::Claim, |_| {});
        assert!(check(&Facts::of(&story.history())).is_invalid());
    }

    #[test]
    fn second_reclaim_of_a_lease_is_a_violation() {
        let over = |op: &mut Transition| op.lease_until_us = Some(op.now_us);
        let reclaim = |story: Story, ms| story.then(ms, Step::Reclaim, over);
        let claimed = || Story::accepted().then(20, Step::Claim, |_| {});
        let reclaimed = reclaim(claimed(), 5_000);
        assert!(check(&Facts::of(&reclaimed.history())).is_valid());
        let twice = reclaim(reclaim(claimed(), 5_000), 6_000);
        assert_eq!(
            verdict_line(&CHECKER, &twice.history()),
            "INVALID: 1 of 1 broken; event e was reclaimed and had no lease (lines [7])"
        );
    }

    #[test]
    fn only_an_earlier_fault_explains_an_early_reclaim() {
        let hit = |from| {
            let early = |op: &mut Transition| op.lease_until_us = Some(op.now_us + 1);
            let story = Story::of_one_event().without_faults().edit_steps(Step::Reclaim, early);
            verdict_line(
                &CHECKER,
                &story.with_fault(KillWorker::KIND, process("h0"), from..Story::END).history(),
            )
        };
        assert_eq!(hit(700_000), "valid: 3 examined, 1 leases ended with their worker");
        assert_eq!(
            hit(700_001),
            "INVALID: 1 of 3 broken; the lease of event e was ended early, and no fault hit its worker \
             (lines [9, 12])"
        );
    }

    #[test]
    fn early_reclaim_needs_a_fault_of_its_worker() {
        let early = |op: &mut Transition| op.lease_until_us = Some(op.now_us + 1);
        let story = || Story::of_one_event().edit_steps(Step::Reclaim, early);
        assert!(check(&Facts::of(&story().history())).is_valid());
        let unharmed = story().without_faults();
        assert!(check(&Facts::of(&unharmed.history())).is_invalid());
        let another = story().edit(|_, op| {
            if let Op::FaultStart(start) = op {
                start.target = process("another");
            }
        });
        assert!(check(&Facts::of(&another.history())).is_invalid());
    }

    #[test]
    fn only_a_database_link_fault_ends_presence() {
        let cut = |link: &'static str| {
            let story = Story::of_one_event()
                .edit_steps(Step::Reclaim, |op| op.lease_until_us = Some(op.now_us + 1))
                .edit(move |_, op| {
                    if let Op::FaultStart(start) = op {
                        *start = FaultStart::new(1, &BlackHole::KIND, links(link));
                    }
                });
            check(&Facts::of(&story.history()))
        };
        assert!(cut("workers->r0+w0->pg").is_valid());
        assert!(cut("workers->r0").is_invalid());
        assert!(cut("client->w0").is_invalid());
    }

    #[test]
    fn reclaim_of_an_expired_lease_needs_no_fault() {
        let story = Story::of_one_event()
            .edit_steps(Step::Reclaim, |op| op.lease_until_us = Some(op.now_us))
            .without_faults();
        assert!(check(&Facts::of(&story.history())).is_valid());
    }
}
