//! Every complete request is signed. The receivers verify with their own implementation.

use super::declaration::{Checker, Need, Property, When};
use super::verdict::{Examination, Verdict};
use crate::history::facts::Facts;

/// The declaration of this checker.
pub const CHECKER: Checker = Checker {
    name: "signature",
    invariant: "every complete request has a valid signature over its exact bytes and a fresh timestamp",
    property: Property::Safety,
    when: When::ALWAYS,
    needs: &[Need::Signature],
    check,
};

fn check(facts: &Facts<'_>) -> Verdict {
    let mut examination = Examination::default();
    for receipt in facts.receipts().filter(|receipt| receipt.begin.op.is_whole()) {
        examination.saw_one();
        if !receipt.is_signed() {
            let op = receipt.begin.op;
            let what = format!("a request for {:?} at {}: {}", op.id, op.target, op.sig);
            examination.broken(what, [receipt.begin.seq]);
        }
    }
    examination.verdict("no complete request was received", "verified by the receivers".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::story::Story;
    use crate::history::op::Op;

    #[test]
    fn wrong_signature_is_a_violation() {
        let history = Story::of_four_events().edit(|_, op| {
            if let Op::RecvBegin(begin) = op
                && begin.ordinal == Some(0)
            {
                begin.sig = "invalid: no entry matches".into();
            }
        });
        assert!(check(&Facts::of(&history.history())).is_invalid());
    }

    #[test]
    fn run_without_complete_requests_is_unknown() {
        let history = Story::of_four_events().without(|op| matches!(op, Op::RecvBegin(_)));
        assert_eq!(check(&Facts::of(&history.history())).word(), "unknown");
    }
}
