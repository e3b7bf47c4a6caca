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
    use crate::checker::sample::Sample;
    use crate::history::op::{NotAcknowledged, Op};

    #[test]
    fn a_request_for_an_event_that_nobody_posted_is_a_phantom() {
        let history = Sample::default().with_receipt(500, 77, 1).history();
        assert!(check(&Facts::of(&history)).is_invalid());
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
            check(&Facts::of(&history.history()))
        };
        assert!(ended(true).is_invalid());
        assert!(ended(false).is_valid());
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
