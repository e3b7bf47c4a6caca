//! Attempt numbers are exact: each request is an attempt of its own, none is counted twice or not.
//!
//! The header at the receiver and the rows of the view are held against each other. An abandoned row
//! needs a killed worker, or another fault that may cost a lease: one of them abandons one event at most
//! once, a clock twice (it jumps, and jumps back), a crash loop as often as it kills. Only a living
//! worker whose lease was ended may send an attempt after a later one was received, or the network
//! between workers and receivers may keep it for that long.

use super::{Checker, Examination, Kind, Verdict};
use crate::history::facts::{EventFacts, Facts, FaultFacts};

/// The register's entry.
pub const CHECKER: Checker = Checker {
    name: "attempts",
    invariant: "attempts are numbered 1, 2, … without gap, and no number is sent twice",
    kind: Kind::Safety,
    check,
};

fn check(facts: &Facts<'_>) -> Verdict {
    let mut examination = Examination::default();
    let excuses = facts.faults.iter().map(FaultFacts::abandons_max).sum();
    let mut attempts = 0_usize;
    for (ordinal, event) in facts.accepted() {
        examination.saw_one();
        attempts += event.receipts.len();
        for (what, seqs) in sent_twice(event, &facts.faults)
            .into_iter()
            .chain(miscounted(event, excuses))
        {
            examination.broken(format!("event {ordinal}: {what}"), seqs);
        }
    }
    let note = format!("{attempts} requests received");
    examination.verdict("no event was acknowledged", note)
}

type Found = Vec<(String, Vec<u64>)>;

fn sent_twice(event: &EventFacts<'_>, faults: &[FaultFacts<'_>]) -> Found {
    let mut found = Found::new();
    let mut newest = (0, 0);
    for receipt in &event.receipts {
        let Some(number) = receipt.begin.op.attempt else {
            continue;
        };
        let (t, seq) = (receipt.begin.t, receipt.begin.seq);
        // What a living worker had in hand when its lease was ended may leave it late, but not twice.
        let lost_its_lease = number < newest.0
            && event.is_called_abandoned(receipt)
            && faults
                .iter()
                .any(|fault| fault.may_abandon() && !fault.may_kill() && fault.start.t <= t);
        let was_kept = number < newest.0
            && faults
                .iter()
                .any(|fault| fault.may_keep(receipt) && fault.start.t <= t);
        if number <= newest.0 && !lost_its_lease && !was_kept {
            let what = format!("attempt {number} was received after attempt {}", newest.0);
            found.push((what, vec![newest.1, seq]));
        }
        newest = newest.max((number, seq));
    }
    found
}

fn miscounted(event: &EventFacts<'_>, excuses: usize) -> Found {
    let mut found = Found::new();
    let Some(state) = event.state.filter(|at| at.op.status.is_some()) else {
        return found;
    };
    let Some(count) = state.op.attempt_count else {
        return found;
    };
    let highest = event
        .receipts
        .iter()
        .filter_map(|r| r.begin.op.attempt)
        .max()
        .unwrap_or(0);
    if count < highest {
        found.push((
            format!("attempt {highest} was received, {count} are counted"),
            vec![state.seq],
        ));
    }
    let numbers: Vec<u32> = state.op.attempts.iter().map(|row| row.number).collect();
    let ended = state.op.status.as_deref() != Some("pending");
    if ended && !numbers.iter().copied().eq(1..=count) {
        let what = format!("{count} attempts are counted, the view lists {numbers:?}");
        found.push((what, vec![state.seq]));
    }
    let abandoned = state
        .op
        .attempts
        .iter()
        .filter(|row| row.outcome == "abandoned")
        .count();
    if abandoned > excuses {
        let what =
            format!("{abandoned} attempts were abandoned, {excuses} faults explain one each");
        found.push((what, vec![state.seq]));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::sample::{SECOND, Sample};
    use crate::history::op::Op;

    #[test]
    fn one_number_for_two_requests_is_a_violation() {
        let history = Sample::default().with_receipt(4 * SECOND, 0, 2).history();
        assert!(check(&Facts::of(&history)).is_invalid());
    }

    #[test]
    fn an_attempt_that_was_received_and_not_counted_is_a_violation() {
        let history = Sample::default().with_receipt(4 * SECOND, 0, 3).history();
        assert!(check(&Facts::of(&history)).is_invalid());
    }

    #[test]
    fn an_attempt_that_was_counted_and_not_listed_is_a_violation() {
        let history = Sample::default().edit(|_, op| {
            if let Op::State(state) = op {
                state.attempts.remove(0);
            }
        });
        assert!(check(&Facts::of(&history.history())).is_invalid());
    }

    #[test]
    fn an_abandoned_attempt_without_a_kill_is_a_violation() {
        let history = Sample::default().without(|op| matches!(op, Op::FaultStart(_)));
        assert!(check(&Facts::of(&history.history())).is_invalid());
    }
}
