//! What the dispatcher says of an event agrees with what happened on the wire.
//!
//! `delivered` needs a whole 2xx that a receiver wrote, in the very attempt that is called delivered,
//! and a status in the view is the status that the receiver gave.

use std::collections::BTreeMap;

use super::{Checker, Examination, Kind, Verdict};
use crate::history::facts::{EventFacts, Facts, ReceiptFacts};
use crate::history::op::AttemptSeen;

/// The register's entry.
pub const CHECKER: Checker = Checker {
    name: "state_agrees",
    invariant: "an event that is said to be delivered was answered by a whole 2xx in that attempt",
    kind: Kind::Safety,
    check,
};

fn check(facts: &Facts<'_>) -> Verdict {
    let mut examination = Examination::default();
    for (ordinal, event) in facts.accepted() {
        let Some(state) = event.state.filter(|at| at.op.http == 200) else {
            if event.state.is_none_or(|at| at.op.http != 404) {
                examination.doubt(format!("the state of event {ordinal} could not be read"));
            }
            continue;
        };
        examination.saw_one();
        if event.status() == Some("delivered") && event.successes().next().is_none() {
            let what = format!("event {ordinal} is said to be delivered; no receiver took it");
            examination.broken(what, [state.seq]);
        }
        for (what, seq) in disagreements(event, &state.op.attempts) {
            examination.broken(format!("event {ordinal}, {what}"), [state.seq, seq]);
        }
    }
    examination.verdict(
        "no final state was read",
        "final reads agree with receipts".into(),
    )
}

/// Attempts whose row in the view tells another story than their receipt.
fn disagreements(event: &EventFacts<'_>, rows: &[AttemptSeen]) -> Vec<(String, u64)> {
    let receipts: BTreeMap<u32, &ReceiptFacts<'_>> = event
        .receipts
        .iter()
        .filter_map(|receipt| Some((receipt.begin.op.attempt?, receipt)))
        .collect();
    let mut found = Vec::new();
    for row in rows {
        let Some(receipt) = receipts.get(&row.number) else {
            continue;
        };
        let Some(end) = receipt.end else { continue };
        if row.outcome == "delivered" && !receipt.is_success() {
            let what = format!(
                "attempt {}: delivered in the view, {} on the wire",
                row.number, end.op.how
            );
            found.push((what, end.seq));
        }
        if let (Some(said), Some(given)) = (row.status_code, end.op.status)
            && said != given
        {
            let what = format!(
                "attempt {}: {said} in the view, {given} on the wire",
                row.number
            );
            found.push((what, end.seq));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::sample::Sample;
    use crate::history::op::{Op, RecvEnd};

    #[test]
    fn delivered_without_a_receipt_is_a_violation() {
        let history = Sample::default().without(|op| {
            matches!(
                op,
                Op::RecvEnd(RecvEnd {
                    ordinal: Some(0),
                    ..
                })
            ) || matches!(op, Op::RecvBegin(begin) if begin.ordinal == Some(0))
        });
        assert!(check(&Facts::of(&history.history())).is_invalid());
    }

    #[test]
    fn an_attempt_called_delivered_that_was_refused_is_a_violation() {
        let history = Sample::default().edit(|_, op| {
            if let Op::State(state) = op
                && state.ordinal == 0
            {
                state.attempts[0].outcome = "delivered".into();
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
