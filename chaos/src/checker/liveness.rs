//! After the heal, every acknowledged event comes to an end within the bound.

use super::{Checker, Examination, Kind, Verdict};
use crate::history::facts::Facts;
use crate::history::op::Phase;

/// The register's entry.
pub const CHECKER: Checker = Checker {
    name: "liveness",
    invariant: "every acknowledged event ends within the drain's bound",
    kind: Kind::Liveness,
    check,
};

fn check(facts: &Facts<'_>) -> Verdict {
    let mut examination = Examination::default();
    let drain = facts.phases.get(&Phase::Drain);
    let reads = facts.phases.get(&Phase::FinalReads);
    let (Some((began, Some(bound))), Some((ended, _))) = (drain, reads) else {
        return Verdict::Unknown {
            examined: 0,
            why: "the run did not come to its drain".into(),
        };
    };
    for (ordinal, event) in facts.accepted() {
        examination.saw_one();
        let (http, status) = event
            .state
            .map_or((0, None), |at| (at.op.http, event.status()));
        let told = match (http, status) {
            // Forgotten is lost, which no_loss says.
            (404, _) | (_, Some("delivered" | "dead")) => continue,
            (0, _) => "could not be read".into(),
            (_, Some(status)) => format!("was still {status}"),
            (http, None) => format!("was answered by {http}"),
        };
        let what = format!(
            "event {ordinal} {told} {} s after the heal",
            (ended - began) / 1_000_000
        );
        let seqs = event
            .acknowledged
            .iter()
            .map(|at| at.seq)
            .chain(event.state.map(|at| at.seq));
        examination.broken(what, seqs);
    }
    let seconds = |us: u64| format!("{}.{} s", us / 1_000_000, us / 100_000 % 10);
    let note = format!(
        "drained in {} of {}",
        seconds(ended - began),
        seconds(*bound)
    );
    examination.verdict("no event was acknowledged", note)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::sample::Sample;
    use crate::history::op::Op;

    #[test]
    fn an_event_that_is_still_pending_at_the_end_is_a_violation() {
        let history = Sample::default().edit(|_, op| {
            if let Op::State(state) = op
                && state.ordinal == 1
            {
                state.status = Some("pending".into());
            }
        });
        assert!(check(&Facts::of(&history.history())).is_invalid());
    }

    #[test]
    fn a_run_that_never_drained_is_unknown() {
        let history = Sample::default().without(|op| matches!(op, Op::Phase(_)));
        assert_eq!(check(&Facts::of(&history.history())).word(), "unknown");
    }
}
