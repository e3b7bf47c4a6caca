//! No event is given up whose script ends with a success.
//!
//! Every script of these profiles succeeds before the budget of attempts ends, and the budget of
//! abandonments is above the kills drawn: an event that is dead was given up too early.

use super::{Checker, Examination, Kind, Verdict};
use crate::history::facts::Facts;

/// The register's entry.
pub const CHECKER: Checker = Checker {
    name: "dead_letters",
    invariant: "no event is dead, since every script succeeds within the budget",
    kind: Kind::Safety,
    check,
};

fn check(facts: &Facts<'_>) -> Verdict {
    let mut examination = Examination::default();
    for (ordinal, event) in facts.accepted() {
        let Some(state) = event.state else { continue };
        if state.op.status.is_none() {
            continue;
        }
        examination.saw_one();
        if state.op.status.as_deref() == Some("dead") {
            let reason = state.op.reason.as_deref().unwrap_or("no reason");
            let count = event.receipts.len();
            let what = format!("event {ordinal} is dead ({reason}) after {count} requests");
            examination.broken(what, [state.seq]);
        }
    }
    examination.verdict("no final state was read", "none is dead".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::sample::Sample;
    use crate::history::op::Op;

    #[test]
    fn an_event_that_is_dead_is_a_violation() {
        let history = Sample::default().edit(|_, op| {
            if let Op::State(state) = op
                && state.ordinal == 2
            {
                state.status = Some("dead".into());
            }
        });
        assert!(check(&Facts::of(&history.history())).is_invalid());
    }

    #[test]
    fn a_run_whose_states_were_not_read_is_unknown() {
        let history = Sample::default().without(|op| matches!(op, Op::State(_)));
        assert_eq!(check(&Facts::of(&history.history())).word(), "unknown");
    }
}
