//! Nothing is received that was not posted.
//!
//! A post that ended as `info` may be received any number of times, also none; it is counted as
//! recovered. Only a post that certainly stored nothing must stay unreceived.

use std::collections::BTreeSet;

use super::{Checker, Examination, Kind, Verdict};
use crate::history::facts::{EventFacts, Facts, ReceiptFacts};

/// The register's entry.
pub const CHECKER: Checker = Checker {
    name: "no_phantom",
    invariant: "whatever is received was posted before, and its post did not certainly fail",
    kind: Kind::Safety,
    check,
};

fn check(facts: &Facts<'_>) -> Verdict {
    let mut examination = Examination::default();
    let mut recovered = 0_u64;
    for (ordinal, event) in &facts.events {
        let ids: BTreeSet<&str> = event
            .acknowledged
            .iter()
            .map(|at| at.op.id.as_str())
            .collect();
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
    let known: BTreeSet<&str> = facts
        .accepted()
        .filter_map(|(_, event)| event.id())
        .collect();
    for stray in facts.strays.iter().filter(|stray| stray.is_signed()) {
        examination.saw_one();
        // A known id at a strange place is right_target's to judge.
        if stray
            .begin
            .op
            .id
            .as_deref()
            .is_none_or(|id| !known.contains(id))
        {
            let what = format!(
                "a signed request for {:?} that nobody posted",
                stray.begin.op.id
            );
            examination.broken(what, [stray.begin.seq]);
        }
    }
    let note = format!("{recovered} received without ever having been acknowledged");
    examination.verdict("no signed request was received", note)
}

fn phantom(
    event: &EventFacts<'_>,
    ids: &BTreeSet<&str>,
    receipt: &ReceiptFacts<'_>,
) -> Option<String> {
    if event
        .invokes
        .first()
        .is_none_or(|invoke| invoke.seq > receipt.begin.seq)
    {
        return Some("received before it was posted".into());
    }
    if event.failed.len() == event.invokes.len() {
        return Some("received although every post of it certainly failed".into());
    }
    let open = event.invokes.len() > event.failed.len() + event.acknowledged.len();
    let id = receipt.begin.op.id.as_deref().unwrap_or_default();
    (!open && !ids.contains(id)).then(|| format!("received under the id {id:?}, not its own"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::said;
    use crate::checker::sample::Sample;
    use crate::history::op::{NotAcknowledged, Op};

    fn told(sample: Sample) -> String {
        said(&CHECKER, &sample.history())
    }

    fn is_valid(sample: Sample) -> bool {
        check(&Facts::of(&sample.history())).is_valid()
    }

    #[test]
    fn a_request_for_an_event_that_nobody_posted_is_a_phantom() {
        assert!(!is_valid(Sample::default().with_receipt(500, 77, 1)));
    }

    #[test]
    fn a_request_before_its_post_is_a_phantom() {
        assert_eq!(
            told(Sample::default().at(0, 1, 5)),
            "INVALID: 1 of 10 broken; event 0: received before it was posted (lines [3])"
        );
    }

    #[test]
    fn a_request_at_a_place_of_no_event_is_a_phantom_unless_its_id_is_known_or_nobody_signed_it() {
        let stray = |id: Option<&'static str>, sig: &'static str| {
            is_valid(Sample::default().edit(move |_, op| {
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
        let known = Sample::default().edit(|_, op| {
            if let Op::RecvBegin(begin) = op
                && begin.ordinal == Some(0)
            {
                begin.ordinal = None;
            }
        });
        let note = "valid: 2 examined, 0 received without ever having been acknowledged";
        assert_eq!(told(known.without(nothing_else)), note);
    }

    /// Event 0 is posted two times and one of its requests has another id; the second post ends so.
    fn posted_again(ended: fn(NotAcknowledged) -> Op) -> Sample {
        let sample = Sample::default().edit(|_, op| match op {
            Op::RecvBegin(begin) if (begin.ordinal, begin.attempt) == (Some(0), Some(2)) => {
                begin.id = Some("another".into());
            }
            Op::IngestInvoke(invoke) if invoke.op == 902 => {
                (invoke.op, invoke.ordinal) = (900, 0);
            }
            _ => {}
        });
        let end = NotAcknowledged {
            op: 900,
            ordinal: 0,
            status: None,
            why: String::new(),
        };
        sample
            .without(|op| matches!(op, Op::IngestOk(ok) if ok.op == 902))
            .with(40, ended(end))
    }

    #[test]
    fn another_id_is_a_phantom_unless_another_post_may_have_stored_it() {
        assert!(is_valid(posted_again(Op::IngestInfo)));
        assert!(!is_valid(posted_again(Op::IngestFail)));
    }

    #[test]
    fn a_post_that_certainly_failed_must_not_be_received_but_one_with_unknown_end_may() {
        let ended = |fail: bool| {
            let history = Sample::default().edit(|_, op| {
                if let Op::IngestOk(ok) = op
                    && ok.ordinal == 0
                {
                    let (op_number, ordinal, why) = (ok.op, 0, String::new());
                    let not = NotAcknowledged {
                        op: op_number,
                        ordinal,
                        status: None,
                        why,
                    };
                    *op = if fail {
                        Op::IngestFail(not)
                    } else {
                        Op::IngestInfo(not)
                    };
                }
            });
            told(history)
        };
        assert!(ended(true).starts_with("INVALID: 2 of 10 broken"));
        assert_eq!(
            ended(false),
            "valid: 10 examined, 1 received without ever having been acknowledged"
        );
    }

    #[test]
    fn an_id_that_was_not_acknowledged_for_the_event_is_a_phantom() {
        let history = Sample::default().edit(|_, op| {
            if let Op::RecvBegin(begin) = op {
                begin.id = Some("e-other".into());
            }
        });
        assert!(check(&Facts::of(&history.history())).is_invalid());
    }
}
