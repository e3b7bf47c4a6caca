//! Attempt numbers are exact: each request is an attempt of its own, none is counted twice or not.
//!
//! The header at the receiver and the rows of the view are held against each other. An abandoned row
//! needs a killed worker, or another fault that may cost a lease: one of them abandons one event at most
//! once, a clock twice (it jumps, and jumps back), a crash loop as often as it kills. Only a living
//! worker whose lease was ended may send an attempt after a later one was received, or the network
//! between workers and receivers may keep it for that long; nobody may send it twice.

use std::collections::BTreeSet;

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
    let mut seen = BTreeSet::new();
    for receipt in &event.receipts {
        let Some(number) = receipt.begin.op.attempt else {
            continue;
        };
        let (t, seq) = (receipt.begin.t, receipt.begin.seq);
        let is_new = seen.insert(number);
        // What a living worker had in hand when its lease was ended may leave it late, but not twice.
        let lost_its_lease = event.is_called_abandoned(receipt)
            && faults
                .iter()
                .any(|fault| fault.may_abandon() && !fault.may_kill() && fault.start.t <= t);
        let was_kept = faults
            .iter()
            .any(|fault| fault.may_keep(receipt) && fault.start.t <= t);
        let is_excused = is_new && (lost_its_lease || was_kept);
        if number <= newest.0 && !is_excused {
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
    use crate::checker::said;
    use crate::checker::sample::{KILL, SECOND, Sample, links, w0};
    use crate::history::op::Op;
    use crate::nemesis::{HangReceiver, Latency, PauseWorker};

    #[test]
    fn one_number_for_two_requests_is_a_violation() {
        let history = Sample::default().with_receipt(4 * SECOND, 0, 2).history();
        assert!(check(&Facts::of(&history)).is_invalid());
    }

    fn is_valid(sample: Sample) -> bool {
        check(&Facts::of(&sample.history())).is_valid()
    }

    /// Attempt 1 of event 1, which the view calls so, comes a second after attempt 2.
    fn late(outcome: &'static str) -> Sample {
        let sample = Sample::default().at(1, 1, LATE);
        sample.edit(move |_, op| match op {
            Op::State(state) if state.ordinal == 1 => state.attempts[0].outcome = outcome.into(),
            _ => {}
        })
    }

    /// When that is.
    const LATE: u64 = KILL + 3 * SECOND;

    #[test]
    fn a_late_attempt_is_excused_by_what_ended_the_lease_of_a_living_worker_and_by_nothing_else() {
        let after = |f, from| late("abandoned").with_fault(f, w0(), (from, LATE + SECOND));
        assert!(
            !is_valid(late("abandoned")),
            "a killed worker sends nothing"
        );
        assert!(is_valid(after(PauseWorker::KIND, LATE)));
        assert!(!is_valid(after(PauseWorker::KIND, LATE + 1)));
        assert!(!is_valid(after(HangReceiver::KIND, KILL)));
        let settled = late("rejected").with_fault(PauseWorker::KIND, w0(), (KILL, LATE));
        assert!(!is_valid(settled));
    }

    #[test]
    fn a_late_attempt_is_excused_by_its_own_link() {
        let kept = |link, from| {
            late("rejected").with_fault(Latency::KIND, links(link), (from, LATE + SECOND))
        };
        assert!(is_valid(kept("workers->r1", LATE)));
        assert!(!is_valid(kept("workers->r1", LATE + 1)));
        assert!(!is_valid(kept("workers->r2", LATE)));
    }

    #[test]
    fn nothing_excuses_that_an_attempt_is_sent_twice() {
        let paused = |sample: Sample| sample.with_fault(PauseWorker::KIND, w0(), (KILL, LATE));
        let kept =
            |sample: Sample| sample.with_fault(Latency::KIND, links("workers->r1"), (KILL, LATE));
        for excused in [paused, kept] {
            // Under the newest number, and under one that a later attempt has overtaken.
            let again = |attempt| excused(Sample::default().with_receipt(LATE, 1, attempt));
            assert!(!is_valid(again(2)));
            assert!(!is_valid(again(1)));
        }
    }

    #[test]
    fn what_was_examined_and_what_is_wrong_with_it_is_told() {
        let told = |sample: Sample| said(&CHECKER, &sample.history());
        assert_eq!(
            told(Sample::default()),
            "valid: 4 examined, 10 requests received"
        );
        assert_eq!(
            told(Sample::default().with_receipt(4 * SECOND, 0, 1)),
            "INVALID: 1 of 4 broken; event 0: attempt 1 was received after attempt 2 (lines [19, 25])"
        );
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
        assert!(!is_valid(
            Sample::default().without(|op| matches!(op, Op::FaultStart(_)))
        ));
    }

    #[test]
    fn the_rows_of_an_event_that_is_under_way_need_not_be_there_yet() {
        let status = |status: &'static str| {
            Sample::default().edit(move |_, op| {
                if let Op::State(state) = op {
                    state.status = Some(status.into());
                    state.attempts.truncate(1);
                }
            })
        };
        assert!(is_valid(status("pending")));
        assert!(!is_valid(status("delivered")));
    }
}
