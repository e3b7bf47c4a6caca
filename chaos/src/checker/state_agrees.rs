//! The reported state of an event agrees with the requests and responses of its receivers.
//!
//! `delivered` needs a complete 2xx in the attempt that is recorded as delivered, and a recorded
//! status is that of the receiver. A response is recorded as too large if and only if it was
//! endless, and an endless response is never recorded as complete.

use std::collections::BTreeMap;

use super::declaration::{Checker, Need, Property, When};
use super::verdict::{Examination, Verdict};
use crate::history::facts::{EventFacts, Facts, ReceiptFacts};
use crate::history::op::AttemptSeen;

/// The declaration of this checker.
pub const CHECKER: Checker = Checker {
    name: "state_agrees",
    invariant: "an event that is reported as delivered got a complete 2xx in that attempt",
    property: Property::Safety,
    when: When::ALWAYS,
    needs: &[Need::State, Need::Attempts],
    check,
};

/// The outcome of a response that was larger than MAX_RESPONSE_BYTES.
const TOO_LARGE: &str = "response_too_large";
/// The outcome of a complete response that is not a 2xx.
const REJECTED: &str = "rejected";
/// The behavior of a receiver whose response never ends.
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
            let what =
                format!("event {ordinal} is reported as delivered, and no receiver sent a 2xx");
            examination.broken(what, [state.seq]);
        }
        for (what, seq) in disagreements(event, &state.op.attempts) {
            let seqs = [state.seq].into_iter().chain(seq);
            examination.broken(format!("event {ordinal}, {what}"), seqs);
        }
    }
    examination.verdict("no final state was read", "final reads agree with receipts".into())
}

/// Returns the recorded attempts that disagree with their request, each with a line.
fn disagreements(event: &EventFacts<'_>, rows: &[AttemptSeen]) -> Vec<(String, Option<u64>)> {
    let receipts: BTreeMap<u32, &ReceiptFacts<'_>> = event
        .receipts
        .iter()
        .filter_map(|receipt| Some((receipt.begin.op.attempt?, receipt)))
        .collect();
    // Requests without a number cannot be assigned to attempts.
    let is_numbered = event.receipts.iter().all(|r| r.begin.op.attempt.is_some());
    let mut found = Vec::new();
    for row in rows {
        let Some(receipt) = receipts.get(&row.number) else {
            if row.outcome == "delivered" && is_numbered {
                let what = format!(
                    "attempt {}: recorded as delivered, and no receiver got it",
                    row.number
                );
                found.push((what, None));
            }
            continue;
        };
        let Some(end) = receipt.end else { continue };
        if row.outcome == "delivered" && !receipt.is_success() {
            let what = format!(
                "attempt {}: recorded as delivered, and its request ended as {}",
                row.number, end.op.how
            );
            found.push((what, Some(end.seq)));
        }
        if let Some(what) = of_endless(row, receipt) {
            found.push((what, Some(receipt.begin.seq)));
        }
        if let (Some(recorded), Some(sent)) = (row.status_code, end.op.status)
            && recorded != sent
        {
            let what = format!(
                "attempt {}: recorded with status {recorded}, and the receiver sent {sent}",
                row.number
            );
            found.push((what, Some(end.seq)));
        }
    }
    found
}

/// Returns the disagreement if an endless response is recorded as complete, or another as endless.
fn of_endless(row: &AttemptSeen, receipt: &ReceiptFacts<'_>) -> Option<String> {
    let scripted = receipt.begin.op.scripted.as_ref();
    let what = scripted.map_or("", |scripted| scripted.what.as_str());
    let wrong = match row.outcome.as_str() {
        TOO_LARGE => !what.starts_with(ENDLESS),
        REJECTED => what.starts_with(ENDLESS),
        _ => false,
    };
    let (number, outcome) = (row.number, &row.outcome);
    wrong.then(|| format!("attempt {number}: recorded as {outcome}, and the receiver sent {what}"))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::checker::story::Story;
    use crate::checker::verdict_line;
    use crate::history::op::{Op, State};

    #[test]
    fn delivered_without_a_2xx_is_a_violation() {
        let unreceived = |status: &'static str| {
            let unreceived = Story::of_four_events().without(|op| match op {
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
            verdict_line(&CHECKER, &unlisted.history())
        };
        assert!(unreceived("pending").starts_with("valid"));
        assert_eq!(
            unreceived("delivered"),
            "INVALID: 1 of 4 broken; event 0 is reported as delivered, and no receiver sent a 2xx (lines [34])"
        );
    }

    #[test]
    fn attempt_recorded_as_delivered_after_a_500_is_a_violation() {
        let history = Story::of_four_events().edit(|_, op| {
            if let Op::State(state) = op
                && state.ordinal == 0
            {
                state.attempts[0].outcome = "delivered".into();
            }
        });
        assert!(check(&Facts::of(&history.history())).is_invalid());
    }

    /// The verdict if the final read of event 0 is edited.
    fn verdict_if(edit: impl Fn(&mut State)) -> String {
        let history = Story::of_four_events().edit(|_, op| {
            if let Op::State(state) = op
                && state.ordinal == 0
            {
                edit(state);
            }
        });
        verdict_line(&CHECKER, &history.history())
    }

    #[test]
    fn recorded_status_must_be_that_of_the_receiver() {
        let status = |code| move |state: &mut State| state.attempts[0].status_code = Some(code);
        assert_eq!(verdict_if(status(500)), "valid: 4 examined, final reads agree with receipts");
        assert_eq!(
            verdict_if(status(502)),
            "INVALID: 1 of 4 broken; event 0, attempt 1: recorded with status 502, and the receiver sent 500 (lines [38, 16])"
        );
    }

    #[test]
    fn unreceived_attempt_must_not_be_recorded_as_delivered() {
        let called = |state: &mut State| {
            let row = AttemptSeen { number: 3, outcome: "delivered".into(), status_code: None };
            state.attempts.push(row);
        };
        assert_eq!(
            verdict_if(called),
            "INVALID: 1 of 4 broken; event 0, attempt 3: recorded as delivered, and no receiver got it (lines [38])"
        );
        let unnumbered = Story::of_four_events().edit(|_, op| match op {
            Op::State(state) => called(state),
            Op::RecvBegin(begin) => begin.attempt = None,
            _ => {}
        });
        assert!(check(&Facts::of(&unnumbered.history())).is_valid());
    }

    #[test]
    fn unread_state_is_a_doubt_and_unknown_event_is_not_judged() {
        let answered = |http| move |state: &mut State| state.http = http;
        assert_eq!(
            verdict_if(answered(503)),
            "unknown: 3 examined, the state of event 0 could not be read"
        );
        assert_eq!(verdict_if(answered(404)), "valid: 3 examined, final reads agree with receipts");
    }

    #[test]
    fn only_endless_response_may_be_recorded_as_too_large() {
        let word = |what: &'static str, outcome: &'static str| {
            let history = Story::of_four_events().edit(move |_, op| match op {
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
        assert_eq!(word("endless_body 200", "response_too_large"), "valid");
        assert_eq!(word("endless_body 200", "timeout"), "valid");
        assert_eq!(word("endless_body 200", "rejected"), "INVALID");
        assert_eq!(word("endless_body 200", "delivered"), "INVALID");
        assert_eq!(word("drip 200", "timeout"), "valid");
        assert_eq!(word("drip 200", "response_too_large"), "INVALID");
    }

    #[test]
    fn run_without_final_reads_is_unknown() {
        let history = Story::of_four_events().without(|op| matches!(op, Op::State(_)));
        assert_eq!(check(&Facts::of(&history.history())).word(), "unknown");
    }
}
