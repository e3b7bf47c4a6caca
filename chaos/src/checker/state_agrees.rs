//! What the dispatcher says of an event agrees with what happened on the wire.
//!
//! `delivered` needs a whole 2xx that a receiver wrote, in the very attempt that is called delivered,
//! and a status in the view is the status that the receiver gave. An answer is called too large if it had
//! no end, and no other is; an answer without an end was never a whole one.

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

/// How the view calls an answer that was larger than its bound.
const TOO_LARGE: &str = "response_too_large";
/// How it calls a whole answer that is no 2xx.
const REJECTED: &str = "rejected";
/// What the behavior is called that never ends its answer.
const ENDLESS: &str = "endless_body";

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
            let seqs = [state.seq].into_iter().chain(seq);
            examination.broken(format!("event {ordinal}, {what}"), seqs);
        }
    }
    examination.verdict(
        "no final state was read",
        "final reads agree with receipts".into(),
    )
}

/// Attempts whose row in the view tells another story than their receipt.
fn disagreements(event: &EventFacts<'_>, rows: &[AttemptSeen]) -> Vec<(String, Option<u64>)> {
    let receipts: BTreeMap<u32, &ReceiptFacts<'_>> = event
        .receipts
        .iter()
        .filter_map(|receipt| Some((receipt.begin.op.attempt?, receipt)))
        .collect();
    // Where requests carry no number, nothing is known of a single one.
    let is_numbered = event.receipts.iter().all(|r| r.begin.op.attempt.is_some());
    let mut found = Vec::new();
    for row in rows {
        let Some(receipt) = receipts.get(&row.number) else {
            if row.outcome == "delivered" && is_numbered {
                let what = format!(
                    "attempt {}: delivered in the view, never received",
                    row.number
                );
                found.push((what, None));
            }
            continue;
        };
        let Some(end) = receipt.end else { continue };
        if row.outcome == "delivered" && !receipt.is_success() {
            let what = format!(
                "attempt {}: delivered in the view, {} on the wire",
                row.number, end.op.how
            );
            found.push((what, Some(end.seq)));
        }
        if let Some(what) = of_endless(row, receipt) {
            found.push((what, Some(receipt.begin.seq)));
        }
        if let (Some(said), Some(given)) = (row.status_code, end.op.status)
            && said != given
        {
            let what = format!(
                "attempt {}: {said} in the view, {given} on the wire",
                row.number
            );
            found.push((what, Some(end.seq)));
        }
    }
    found
}

/// What is wrong of what is said of an answer without an end, or of another as if it were one.
fn of_endless(row: &AttemptSeen, receipt: &ReceiptFacts<'_>) -> Option<String> {
    let scripted = receipt.begin.op.scripted.as_ref();
    let what = scripted.map_or("", |scripted| scripted.what.as_str());
    let wrong = match row.outcome.as_str() {
        TOO_LARGE => !what.starts_with(ENDLESS),
        REJECTED => what.starts_with(ENDLESS),
        _ => false,
    };
    let (number, said) = (row.number, &row.outcome);
    wrong.then(|| format!("attempt {number}: {said} in the view, {what} on the wire"))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::checker::said;
    use crate::checker::sample::Sample;
    use crate::history::op::{Op, State};

    #[test]
    fn delivered_without_a_receipt_is_a_violation_whatever_attempts_are_listed() {
        let unreceived = |status: &'static str| {
            let unreceived = Sample::default().without(|op| match op {
                Op::RecvBegin(begin) => begin.ordinal == Some(0),
                Op::RecvEnd(end) => end.ordinal == Some(0),
                _ => false,
            });
            let unlisted = unreceived.edit(|_, op| {
                if let Op::State(state) = op
                    && state.ordinal == 0
                {
                    (state.status, state.attempts) = (Some(status.into()), vec![]);
                }
            });
            said(&CHECKER, &unlisted.history())
        };
        assert!(unreceived("pending").starts_with("valid"));
        assert_eq!(
            unreceived("delivered"),
            "INVALID: 1 of 4 broken; event 0 is said to be delivered; no receiver took it (lines [34])"
        );
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

    /// What is said when the view tells this of event 0.
    fn told(edit: impl Fn(&mut State)) -> String {
        let history = Sample::default().edit(|_, op| {
            if let Op::State(state) = op
                && state.ordinal == 0
            {
                edit(state);
            }
        });
        said(&CHECKER, &history.history())
    }

    #[test]
    fn a_status_in_the_view_is_the_one_that_the_receiver_gave() {
        let status = |code| move |state: &mut State| state.attempts[0].status_code = Some(code);
        assert_eq!(
            told(status(500)),
            "valid: 4 examined, final reads agree with receipts"
        );
        assert_eq!(
            told(status(502)),
            "INVALID: 1 of 4 broken; event 0, attempt 1: 502 in the view, 500 on the wire (lines [38, 16])"
        );
    }

    #[test]
    fn an_attempt_called_delivered_that_no_receiver_saw_is_a_violation_though_another_was_taken() {
        let called = |state: &mut State| {
            let row = AttemptSeen {
                number: 3,
                outcome: "delivered".into(),
                status_code: None,
            };
            state.attempts.push(row);
        };
        assert_eq!(
            told(called),
            "INVALID: 1 of 4 broken; event 0, attempt 3: delivered in the view, never received (lines [38])"
        );
        let unnumbered = Sample::default().edit(|_, op| match op {
            Op::State(state) => called(state),
            Op::RecvBegin(begin) => begin.attempt = None,
            _ => {}
        });
        assert!(check(&Facts::of(&unnumbered.history())).is_valid());
    }

    #[test]
    fn a_state_that_was_not_read_is_a_doubt_and_one_that_is_unknown_there_is_not_judged_here() {
        let answered = |http| move |state: &mut State| state.http = http;
        assert_eq!(
            told(answered(503)),
            "unknown: 3 examined, the state of event 0 could not be read"
        );
        assert_eq!(
            told(answered(404)),
            "valid: 3 examined, final reads agree with receipts"
        );
    }

    #[test]
    fn an_answer_without_an_end_is_too_large_or_too_slow_and_no_other_answer_is_too_large() {
        let told = |what: &'static str, outcome: &'static str| {
            let history = Sample::default().edit(move |_, op| match op {
                Op::RecvBegin(begin) if begin.ordinal == Some(2) && begin.attempt == Some(1) => {
                    begin.scripted.as_mut().unwrap().what = what.into();
                }
                Op::State(state) if state.ordinal == 2 => {
                    state.attempts[0].outcome = outcome.into();
                }
                _ => {}
            });
            check(&Facts::of(&history.history())).word()
        };
        assert_eq!(told("endless_body 200", "response_too_large"), "valid");
        assert_eq!(told("endless_body 200", "timeout"), "valid");
        assert_eq!(told("endless_body 200", "rejected"), "INVALID");
        assert_eq!(told("endless_body 200", "delivered"), "INVALID");
        assert_eq!(told("drip 200", "timeout"), "valid");
        assert_eq!(told("drip 200", "response_too_large"), "INVALID");
    }

    #[test]
    fn a_run_whose_states_were_not_read_is_unknown() {
        let history = Sample::default().without(|op| matches!(op, Op::State(_)));
        assert_eq!(check(&Facts::of(&history.history())).word(), "unknown");
    }
}
