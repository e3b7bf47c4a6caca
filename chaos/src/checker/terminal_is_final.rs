//! A final event stays final: no transition follows until a replay, and no request follows its
//! settle.
//!
//! A request after the end of its event is legal if its claim had lost its lease: a worker that was
//! paused or lost its presence may send late. A late link may deliver a request after the worker
//! has settled the attempt as failed.

use super::declaration::{Checker, Need, Property, When};
use super::verdict::{Examination, Verdict};
use crate::history::facts::{Facts, ReceiptFacts, RowFacts};
use crate::history::transition::Step;

/// The declaration of this checker.
pub const CHECKER: Checker = Checker {
    name: "terminal_is_final",
    invariant: "no transition follows the end of an event, and no request follows its settle",
    property: Property::Safety,
    when: When::ALWAYS,
    needs: &[Need::Audit],
    check,
};

fn check(facts: &Facts<'_>) -> Verdict {
    let mut examination = Examination::default();
    let mut late = 0_u64;
    for (id, row) in &facts.rows {
        for ((_, before), (step, after)) in row.pairs() {
            examination.saw_one();
            if before.op.after.is_final() && *step != Step::Replay {
                let status = &before.op.after.status;
                let what = format!("event {id} was {status}, and then there was a {step:?}");
                examination.broken(what, [before.seq, after.seq]);
            }
        }
        for (seqs, what) in sent_after_the_settle(facts, row) {
            examination.broken(format!("event {id}: {what}"), seqs);
        }
        late += sent_after_the_end(facts, row);
    }
    let note =
        format!("{late} requests came after the end, each of a claim that had lost its lease");
    examination.verdict("no event has two transitions", note)
}

fn sent_after_the_settle(facts: &Facts<'_>, row: &RowFacts<'_>) -> Vec<([u64; 2], String)> {
    let mut found = Vec::new();
    for (step, settle) in &row.steps {
        let receipt = facts.receipt(row, settle.op.attempt);
        let receipt = receipt.filter(|_| *step == Step::Settle);
        let late = receipt.filter(|receipt| receipt.begin.seq > settle.seq);
        if let Some(receipt) = late.filter(|receipt| !was_kept(facts, receipt)) {
            let what = format!("attempt {} was settled before it was received", settle.op.attempt);
            found.push(([settle.seq, receipt.begin.seq], what));
        }
    }
    found
}

/// Returns true if the link may have delivered the request after its worker settled the attempt.
fn was_kept(facts: &Facts<'_>, receipt: &ReceiptFacts<'_>) -> bool {
    let mut faults = facts.faults.iter();
    faults.any(|fault| fault.may_lose_or_delay(receipt) && fault.start.t <= receipt.begin.t)
}

fn sent_after_the_end(facts: &Facts<'_>, row: &RowFacts<'_>) -> u64 {
    let last = row.last().filter(|(_, at)| at.op.after.is_final());
    let event = row.ordinal.and_then(|ordinal| facts.events.get(&ordinal));
    let (Some((_, end)), Some(event)) = (last, event) else {
        return 0;
    };
    let late = event.receipts.iter().filter(|r| r.begin.seq > end.seq);
    late.count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::story::Story;
    use crate::checker::story::ops::links;
    use crate::checker::verdict_line;
    use crate::history::op::Op;
    use crate::nemesis::Latency;

    fn judged(story: Story) -> String {
        verdict_line(&CHECKER, &story.history())
    }

    fn is_valid(story: Story) -> bool {
        check(&Facts::of(&story.history())).is_valid()
    }

    /// The request of an attempt arrives at the end.
    fn late(attempt: u32) -> Story {
        Story::of_one_event().edit(move |t, op| {
            if matches!(op, Op::RecvBegin(begin) if begin.attempt == Some(attempt)) {
                *t = LATE;
            }
        })
    }

    /// The arrival of that request.
    const LATE: u64 = Story::END - 1;

    #[test]
    fn claim_after_the_end_is_a_violation() {
        assert_eq!(
            judged(Story::of_one_event().then(800, Step::Claim, |_| {})),
            "INVALID: 1 of 7 broken; event e was delivered, and then there was a Claim (lines [18, 19])"
        );
    }

    #[test]
    fn replay_after_the_end_is_legal() {
        let replayed =
            Story::of_one_event().then(800, Step::Replay, |op| op.after.status = "pending".into());
        assert!(is_valid(replayed.then(900, Step::Claim, |_| {})));
    }

    #[test]
    fn request_after_its_settle_is_a_violation() {
        assert_eq!(
            judged(late(3)),
            "INVALID: 1 of 6 broken; event e: attempt 3 was settled before it was received (lines [17, 18])"
        );
        assert!(!is_valid(late(1)));
    }

    #[test]
    fn late_link_excuses_a_request_after_its_settle() {
        let kept =
            |link, from| is_valid(late(3).with_fault(Latency::KIND, links(link), from..Story::END));
        assert!(kept("workers->r3", LATE));
        assert!(!kept("workers->r3", LATE + 1));
        assert!(!kept("workers->r4", LATE));
    }

    #[test]
    fn late_request_of_a_lost_lease_is_legal() {
        let note = |late| {
            format!(
                "valid: 6 examined, {late} requests came after the end, each of a claim that had lost its lease"
            )
        };
        assert_eq!(judged(late(2)), note(1));
        assert_eq!(judged(Story::of_one_event()), note(0));
        // A request in a new round is not after the end.
        let replayed = late(2).then(800, Step::Replay, |op| op.after.status = "pending".into());
        assert!(judged(replayed).contains(" 0 requests came after the end"));
    }
}
