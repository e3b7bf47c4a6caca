//! The payload arrives byte for byte as it was posted.

use super::declaration::{Checker, Need, Property, When};
use super::verdict::{Examination, Verdict};
use crate::history::facts::Facts;

/// The declaration of this checker.
pub const CHECKER: Checker = Checker {
    name: "payload",
    invariant: "every complete request carries the bytes of the post",
    property: Property::Safety,
    when: When::ALWAYS,
    needs: &[Need::ExactBytes],
    check,
};

fn check(facts: &Facts<'_>) -> Verdict {
    let mut examination = Examination::default();
    for (ordinal, event) in &facts.events {
        let Some(invoke) = event.invokes.first() else {
            continue;
        };
        // An interrupted request carries a part of the bytes and proves nothing.
        for receipt in event.receipts.iter().filter(|receipt| receipt.begin.op.is_whole()) {
            examination.saw_one();
            if receipt.begin.op.sha256 != invoke.op.sha256 {
                let what =
                    format!("event {ordinal} was received with other bytes than were posted");
                examination.broken(what, [invoke.seq, receipt.begin.seq]);
            }
        }
    }
    examination.verdict("no complete request was received", "SHA-256 equal".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::story::Story;
    use crate::history::op::Op;

    fn with_other_bytes(sig: &'static str) -> Verdict {
        let history = Story::of_four_events().edit(move |_, op| {
            if let Op::RecvBegin(begin) = op
                && begin.ordinal == Some(2)
            {
                begin.sha256 = "00".into();
                begin.sig = sig.into();
            }
        });
        check(&Facts::of(&history.history()))
    }

    #[test]
    fn other_bytes_are_a_violation_although_signed() {
        assert!(with_other_bytes("valid").is_invalid());
    }

    #[test]
    fn interrupted_request_is_not_judged() {
        assert!(with_other_bytes("unchecked: request broken off").is_valid());
    }
}
