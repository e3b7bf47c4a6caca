//! One holder at a time: the leases of an event do not overlap, and none is ended early without cause.
//!
//! Before a lease has run out on the database's clock, only its holder may end it, unless a fault had
//! killed the holder or had cut its presence.

use super::{Checker, Examination, Kind, Verdict};
use crate::history::facts::{At, Facts, WORKER_CRASH_LOOP, WORKER_SCALE, WORKER_TERMINATE};
use crate::history::transition::{Step, Transition};

/// The register's entry.
pub const CHECKER: Checker = Checker {
    name: "lease_exclusion",
    invariant: "no event has two leases, and a lease ends early only by its holder, or by its holder's end",
    kind: Kind::Safety,
    check,
};

/// What the names of faults begin with that end a holder's presence.
const END_PRESENCE: &[&str] = &[
    "worker.kill",
    "worker.stop",
    WORKER_TERMINATE,
    WORKER_CRASH_LOOP,
    WORKER_SCALE,
    "presence.",
    "store.",
    "postgres.",
    "net.",
];

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
                        let what = format!("event {id} was claimed under another claim");
                        examination.broken(what, [first.seq, at.seq]);
                    }
                }
                Step::Reclaim => {
                    let claim = open.take().map_or(at.seq, |claim| claim.seq);
                    if is_early(at.op) {
                        early += 1;
                        if !holder_was_hit(facts, *at) {
                            let what = format!(
                                "the lease of event {id} was ended before its time, its holder unharmed"
                            );
                            examination.broken(what, [claim, at.seq]);
                        }
                    }
                }
                step if step.ends_a_lease() => open = None,
                _ => {}
            }
        }
    }
    examination.verdict(
        "the store told no claim",
        format!("{early} leases ended with their holder"),
    )
}

fn is_early(reclaim: &Transition) -> bool {
    reclaim
        .lease_until_us
        .is_some_and(|until| reclaim.now_us < until)
}

fn holder_was_hit(facts: &Facts<'_>, reclaim: At<'_, Transition>) -> bool {
    let holder = reclaim.op.holder.as_deref().unwrap_or_default();
    facts.faults.iter().any(|fault| {
        fault.start.t <= reclaim.t
            && END_PRESENCE
                .iter()
                .any(|kind| fault.name().starts_with(kind))
            && fault.may_concern(holder)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::story::Story;
    use crate::history::op::Op;

    #[test]
    fn a_claim_under_another_claim_is_a_violation() {
        let story = Story::default().without(|op| matches!(op, Op::Reclaim(_)));
        assert!(check(&Facts::of(&story.history())).is_invalid());
    }

    #[test]
    fn an_early_end_needs_a_fault_that_hit_this_holder() {
        let early = |op: &mut Transition| op.lease_until_us = Some(op.now_us + 1);
        let story = || Story::default().edit_steps(Step::Reclaim, early);
        assert!(check(&Facts::of(&story().history())).is_valid());
        let unharmed = story().without(|op| op.source() == "fault");
        assert!(check(&Facts::of(&unharmed.history())).is_invalid());
        let another = story().edit(|_, op| {
            if let Op::FaultStart(start) = op {
                start.target = "w1/another".into();
            }
        });
        assert!(check(&Facts::of(&another.history())).is_invalid());
    }

    #[test]
    fn a_lease_that_ran_out_needs_none() {
        let story = Story::default()
            .edit_steps(Step::Reclaim, |op| op.lease_until_us = Some(op.now_us))
            .without(|op| op.source() == "fault");
        assert!(check(&Facts::of(&story.history())).is_valid());
    }
}
