//! Every request arrives at the target of its event.

use std::collections::BTreeMap;

use super::declaration::{Checker, Property, When};
use super::verdict::{Examination, Verdict};
use crate::history::facts::Facts;

/// The declaration of this checker.
pub const CHECKER: Checker = Checker {
    name: "right_target",
    invariant: "every request arrives at the target of its event",
    property: Property::Safety,
    when: When::ALWAYS,
    needs: &[],
    check,
};

fn check(facts: &Facts<'_>) -> Verdict {
    let mut examination = Examination::default();
    // By id, because a wrong path is the violation.
    let wanted: BTreeMap<&str, (u64, &str, u64)> = facts
        .accepted()
        .filter_map(|(ordinal, event)| {
            let invoke = event.invokes.first()?;
            Some((event.id()?, (ordinal, invoke.op.target.as_str(), invoke.seq)))
        })
        .collect();
    for receipt in facts.receipts().filter(|receipt| receipt.is_signed()) {
        let Some(id) = receipt.begin.op.id.as_deref() else {
            continue;
        };
        let Some((ordinal, target, invoke)) = wanted.get(id) else {
            continue;
        };
        examination.saw_one();
        if receipt.begin.op.target != *target {
            let at = &receipt.begin.op.target;
            let what = format!("event {ordinal} was posted for {target} and arrived at {at}");
            examination.broken(what, [*invoke, receipt.begin.seq]);
        }
    }
    examination.verdict("no signed request was received", "each at its target".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::story::Story;
    use crate::history::op::Op;

    #[test]
    fn request_at_another_receiver_is_a_violation() {
        let history = Story::of_four_events().edit(|_, op| {
            if let Op::RecvBegin(begin) = op
                && begin.ordinal == Some(1)
            {
                begin.target = "http://127.0.0.1:10/webhook/1".into();
            }
        });
        assert!(check(&Facts::of(&history.history())).is_invalid());
    }

    #[test]
    fn request_without_ordinal_is_found_by_its_id() {
        let history = Story::of_four_events().edit(|_, op| {
            if let Op::RecvBegin(begin) = op
                && begin.ordinal == Some(1)
            {
                begin.ordinal = None;
                begin.target = "http://127.0.0.1:9/webhook".into();
            }
        });
        assert!(check(&Facts::of(&history.history())).is_invalid());
    }
}
