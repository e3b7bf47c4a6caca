//! Attempt numbers are exact: each request is an attempt of its own, none is counted twice or not.
//!
//! The header at the receiver and the rows of the view are held against each other. An abandoned row
//! needs a killed worker: one kill abandons one event at most once.

use super::{Checker, Examination, Kind, Verdict};
use crate::history::facts::{EventFacts, Facts, WORKER_KILL};

/// The register's entry.
pub const CHECKER: Checker = Checker {
    name: "attempts",
    invariant: "attempts are numbered 1, 2, … without gap, and no number is sent twice",
    kind: Kind::Safety,
    check,
};

fn check(facts: &Facts<'_>) -> Verdict {
    let mut examination = Examination::default();
    let kills = facts
        .faults
        .iter()
        .filter(|fault| fault.start.op.f == WORKER_KILL)
        .count();
    let mut attempts = 0_usize;
    for (ordinal, event) in facts.accepted() {
        examination.saw_one();
        attempts += event.receipts.len();
        for (what, seqs) in sent_twice(event)
            .into_iter()
            .chain(miscounted(event, kills))
        {
            examination.broken(format!("event {ordinal}: {what}"), seqs);
        }
    }
    let note = format!("{attempts} requests received");
    examination.verdict("no event was acknowledged", note)
}

type Found = Vec<(String, Vec<u64>)>;

fn sent_twice(event: &EventFacts<'_>) -> Found {
    let numbered = event
        .receipts
        .iter()
        .filter_map(|r| Some((r.begin.op.attempt?, r.begin.seq)));
    let numbered: Vec<(u32, u64)> = numbered.collect();
    let descents = numbered.windows(2).filter(|pair| pair[1].0 <= pair[0].0);
    descents
        .map(|pair| {
            let what = format!(
                "attempt {} was received after attempt {}",
                pair[1].0, pair[0].0
            );
            (what, vec![pair[0].1, pair[1].1])
        })
        .collect()
}

fn miscounted(event: &EventFacts<'_>, kills: usize) -> Found {
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
    if abandoned > kills {
        let what = format!("{abandoned} attempts were abandoned, {kills} kills were made");
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
