//! Every acknowledged event is delivered or dead within the drain bound.

use super::declaration::{Checker, Need, Property, When};
use super::verdict::{Examination, Verdict};
use crate::history::facts::Facts;
use crate::history::op::Phase;

/// The declaration of this checker.
pub const CHECKER: Checker = Checker {
    name: "liveness",
    invariant: "every acknowledged event ends within the drain bound",
    property: Property::Liveness,
    when: When::ALWAYS,
    needs: &[Need::State, Need::RetryRule],
    check,
};

fn check(facts: &Facts<'_>) -> Verdict {
    let mut examination = Examination::default();
    let drain = facts.phases.get(&Phase::Drain);
    let reads = facts.phases.get(&Phase::FinalReads);
    let (Some((began, Some(bound))), Some((ended, _))) = (drain, reads) else {
        return Verdict::Unknown { examined: 0, why: "the run has no drain".into() };
    };
    for (ordinal, event) in facts.accepted() {
        examination.saw_one();
        let (http, status) = event.state.map_or((0, None), |at| (at.op.http, event.status()));
        let found = match (http, status) {
            // `no_loss` judges unknown events.
            (404, _) | (_, Some("delivered" | "dead")) => continue,
            (0, _) => "could not be read".into(),
            (_, Some(status)) => format!("was still {status}"),
            (http, None) => format!("got status {http}"),
        };
        let what =
            format!("event {ordinal} {found} {} s after the heal", (ended - began) / 1_000_000);
        let seqs = event.acknowledged.iter().map(|at| at.seq).chain(event.state.map(|at| at.seq));
        examination.broken(what, seqs);
    }
    let seconds = |us: u64| format!("{}.{} s", us / 1_000_000, us / 100_000 % 10);
    let note = format!("drained in {} of {}", seconds(ended - began), seconds(*bound));
    examination.verdict("no event was acknowledged", note)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::story::Story;
    use crate::history::op::Op;

    #[test]
    fn pending_event_at_the_end_is_a_violation() {
        let history = Story::of_four_events().edit(|_, op| {
            if let Op::State(state) = op
                && state.ordinal == 1
            {
                state.status = Some("pending".into());
            }
        });
        assert!(check(&Facts::of(&history.history())).is_invalid());
    }

    #[test]
    fn run_without_a_drain_is_unknown() {
        let history = Story::of_four_events().without(|op| matches!(op, Op::Phase(_)));
        assert_eq!(check(&Facts::of(&history.history())).word(), "unknown");
    }
}
