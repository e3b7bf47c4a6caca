//! No receiver gets an event that was not posted.
//!
//! The event of a post that ended as `info` may be received any number of times and counts as
//! recovered. Only the event of a post that failed for certain must not be received.

use std::collections::BTreeSet;

use super::declaration::{Checker, Property, When};
use super::verdict::{Examination, Verdict};
use crate::history::facts::{EventFacts, Facts, ReceiptFacts};

/// The declaration of this checker.
pub const CHECKER: Checker = Checker {
    name: "no_phantom",
    invariant: "every received event was posted before, and its post did not fail for certain",
    property: Property::Safety,
    when: When::ALWAYS,
    needs: &[],
    check,
};

fn check(facts: &Facts<'_>) -> Verdict {
    let mut examination = Examination::default();
    let mut recovered = 0_u64;
    for (ordinal, event) in &facts.events {
        let ids: BTreeSet<&str> = event.acknowledged.iter().map(|at| at.op.id.as_str()).collect();
        for receipt in event.receipts.iter().filter(|receipt| receipt.is_signed()) {
            examination.saw_one();
            if let Some(why) = phantom(event, &ids, receipt) {
                examination.broken(format!("event {ordinal}: {why}"), [receipt.begin.seq]);
            }
        }
        if ids.is_empty() && event.successes().next().is_some() {
            recovered += 1;
        }
    }
    let known: BTreeSet<&str> = facts.accepted().filter_map(|(_, event)| event.id()).collect();
    for stray in facts.strays.iter().filter(|stray| stray.is_signed()) {
        examination.saw_one();
        // `right_target` judges known ids at other targets.
        if stray.begin.op.id.as_deref().is_none_or(|id| !known.contains(id)) {
            let what =
                format!("a signed request for {:?}, which no client posted", stray.begin.op.id);
            examination.broken(what, [stray.begin.seq]);
        }
    }
    let note = format!("{recovered} received without an acknowledgement");
    examination.verdict("no signed request was received", note)
}

fn phantom(
    event: &EventFacts<'_>,
    ids: &BTreeSet<&str>,
    receipt: &ReceiptFacts<'_>,
) -> Option<String> {
    if event.invokes.first().is_none_or(|invoke| invoke.seq > receipt.begin.seq) {
        return Some("received before it was posted".into());
    }
    if event.failed.len() == event.invokes.len() {
        return Some("received although every post of it failed for certain".into());
    }
    let open = event.invokes.len() > event.failed.len() + event.acknowledged.len();
    let id = receipt.begin.op.id.as_deref().unwrap_or_default();
    (!open && !ids.contains(id))
        .then(|| format!("received under the id {id:?}, which was not acknowledged"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::story::Story;
    use crate::checker::verdict_line;
    use crate::history::op::{NotAcknowledged, Op};

    fn judged(story: Story) -> String {
        verdict_line(&CHECKER, &story.history())
    }

    fn is_valid(story: Story) -> bool {
        check(&Facts::of(&story.history())).is_valid()
    }

    #[test]
    fn request_for_an_unposted_event_is_a_phantom() {
        assert!(!is_valid(Story::of_four_events().with_receipt(500, 77, 1)));
    }

    #[test]
    fn request_before_its_post_is_a_phantom() {
        assert_eq!(
            judged(Story::of_four_events().with_request_at(0, 1, 5)),
            "INVALID: 1 of 10 broken; event 0: received before it was posted (lines [3])"
        );
    }

    #[test]
    fn signed_request_without_ordinal_needs_a_known_id() {
        let stray = |id: Option<&'static str>, sig: &'static str| {
            is_valid(Story::of_four_events().edit(move |_, op| {
                if let Op::RecvBegin(begin) = op
                    && begin.ordinal == Some(0)
                {
                    (begin.ordinal, begin.id, begin.sig) =
                        (None, id.map(str::to_owned), sig.to_owned());
                }
            }))
        };
        assert!(!stray(Some("another"), "valid"));
        assert!(!stray(None, "valid"));
        assert!(stray(Some("e0"), "valid"));
        assert!(stray(Some("another"), "invalid: no entry matches"));
        let nothing_else = |op: &Op| {
            op.source() == "recv" && !matches!(op, Op::RecvBegin(b) if b.ordinal.is_none())
        };
        let known = Story::of_four_events().edit(|_, op| {
            if let Op::RecvBegin(begin) = op
                && begin.ordinal == Some(0)
            {
                begin.ordinal = None;
            }
        });
        let note = "valid: 2 examined, 0 received without an acknowledgement";
        assert_eq!(judged(known.without(nothing_else)), note);
    }

    /// Event 0 is posted twice, one of its requests has another id, and the second post ends like this.
    fn posted_again(ended: fn(NotAcknowledged) -> Op) -> Story {
        let story = Story::of_four_events().edit(|_, op| match op {
            Op::RecvBegin(begin) if (begin.ordinal, begin.attempt) == (Some(0), Some(2)) => {
                begin.id = Some("another".into());
            }
            Op::IngestInvoke(invoke) if invoke.op == 902 => {
                (invoke.op, invoke.ordinal) = (900, 0);
            }
            _ => {}
        });
        let end = NotAcknowledged { op: 900, ordinal: 0, status: None, why: String::new() };
        story.without(|op| matches!(op, Op::IngestOk(ok) if ok.op == 902)).with(40, ended(end))
    }

    #[test]
    fn other_id_is_a_phantom_unless_another_post_may_have_stored_it() {
        assert!(is_valid(posted_again(Op::IngestInfo)));
        assert!(!is_valid(posted_again(Op::IngestFail)));
    }

    #[test]
    fn failed_post_must_not_be_received_and_an_open_one_may() {
        let ended = |fail: bool| {
            let history = Story::of_four_events().edit(|_, op| {
                if let Op::IngestOk(ok) = op
                    && ok.ordinal == 0
                {
                    let (op_number, ordinal, why) = (ok.op, 0, String::new());
                    let not = NotAcknowledged { op: op_number, ordinal, status: None, why };
                    *op = if fail { Op::IngestFail(not) } else { Op::IngestInfo(not) };
                }
            });
            judged(history)
        };
        assert!(ended(true).starts_with("INVALID: 2 of 10 broken"));
        assert_eq!(ended(false), "valid: 10 examined, 1 received without an acknowledgement");
    }

    #[test]
    fn unacknowledged_id_is_a_phantom() {
        let history = Story::of_four_events().edit(|_, op| {
            if let Op::RecvBegin(begin) = op {
                begin.id = Some("e-other".into());
            }
        });
        assert!(check(&Facts::of(&history.history())).is_invalid());
    }
}
