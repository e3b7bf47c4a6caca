//! Attempt numbers are exact: each request has its own number, and each number is counted once.
//!
//! The header of the requests is compared with the attempts in the final read. An abandoned attempt
//! needs a fault that ends leases, and each fault declares how many attempts of one event it may
//! leave abandoned. An attempt may arrive after a later one only if its worker lost the lease and
//! still ran, or if its link was late. No attempt is sent twice.

use std::collections::BTreeSet;

use super::declaration::{Checker, Need, Property, When};
use super::verdict::{Examination, Verdict};
use crate::history::facts::{EventFacts, Facts, FaultFacts};

/// The declaration of this checker.
pub const CHECKER: Checker = Checker {
    name: "attempts",
    invariant: "attempts are numbered 1, 2, … without gap, and no number is sent twice",
    property: Property::Safety,
    when: When::ALWAYS,
    needs: &[Need::State, Need::Attempts],
    check,
};

fn check(facts: &Facts<'_>) -> Verdict {
    let mut examination = Examination::default();
    let excuses = facts.faults.iter().map(FaultFacts::abandons_max).sum();
    let mut attempts = 0_usize;
    for (ordinal, event) in facts.accepted() {
        examination.saw_one();
        attempts += event.receipts.len();
        for (what, seqs) in
            out_of_order(event, &facts.faults).into_iter().chain(miscounted(event, excuses))
        {
            examination.broken(format!("event {ordinal}: {what}"), seqs);
        }
    }
    let note = format!("{attempts} requests received");
    examination.verdict("no event was acknowledged", note)
}

type Found = Vec<(String, Vec<u64>)>;

fn out_of_order(event: &EventFacts<'_>, faults: &[FaultFacts<'_>]) -> Found {
    let mut found = Found::new();
    let mut newest = (0, 0);
    let mut seen = BTreeSet::new();
    for receipt in &event.receipts {
        let Some(number) = receipt.begin.op.attempt else {
            continue;
        };
        let (t, seq) = (receipt.begin.t, receipt.begin.seq);
        let is_new = seen.insert(number);
        // A worker that lost its lease and still ran may send the attempt late, but not twice.
        let lost_its_lease = event.is_called_abandoned(receipt)
            && faults
                .iter()
                .any(|fault| fault.may_abandon() && !fault.may_kill() && fault.start.t <= t);
        let was_kept =
            faults.iter().any(|fault| fault.may_lose_or_delay(receipt) && fault.start.t <= t);
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
    let highest = event.receipts.iter().filter_map(|r| r.begin.op.attempt).max().unwrap_or(0);
    if count < highest {
        found.push((
            format!("attempt {highest} was received, and attempt_count is {count}"),
            vec![state.seq],
        ));
    }
    let numbers: Vec<u32> = state.op.attempts.iter().map(|row| row.number).collect();
    let ended = state.op.status.as_deref() != Some("pending");
    if ended && !numbers.iter().copied().eq(1..=count) {
        let what = format!("attempt_count is {count}, and the final read lists {numbers:?}");
        found.push((what, vec![state.seq]));
    }
    let abandoned = state.op.attempts.iter().filter(|row| row.outcome == "abandoned").count();
    if abandoned > excuses {
        let what =
            format!("{abandoned} attempts are abandoned, and the faults explain at most {excuses}");
        found.push((what, vec![state.seq]));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::story::ops::{links, w0};
    use crate::checker::story::{KILL, SECOND, Story};
    use crate::checker::verdict_line;
    use crate::history::op::Op;
    use crate::nemesis::{HangReceiver, Latency, PauseWorker};

    #[test]
    fn number_of_two_requests_is_a_violation() {
        let history = Story::of_four_events().with_receipt(4 * SECOND, 0, 2).history();
        assert!(check(&Facts::of(&history)).is_invalid());
    }

    fn is_valid(story: Story) -> bool {
        check(&Facts::of(&story.history())).is_valid()
    }

    /// Attempt 1 of event 1 has this outcome and arrives one second after attempt 2.
    fn late(outcome: &'static str) -> Story {
        let story = Story::of_four_events().with_request_at(1, 1, LATE);
        story.edit(move |_, op| match op {
            Op::State(state) if state.ordinal == 1 => state.attempts[0].outcome = outcome.into(),
            _ => {}
        })
    }

    /// The arrival of that attempt.
    const LATE: u64 = KILL + 3 * SECOND;

    #[test]
    fn late_attempt_is_excused_only_by_a_lost_lease_of_a_running_worker() {
        let after = |f, from| late("abandoned").with_fault(f, w0(), from..LATE + SECOND);
        assert!(!is_valid(late("abandoned")), "a killed worker sends nothing");
        assert!(is_valid(after(PauseWorker::KIND, LATE)));
        assert!(!is_valid(after(PauseWorker::KIND, LATE + 1)));
        assert!(!is_valid(after(HangReceiver::KIND, KILL)));
        let settled = late("rejected").with_fault(PauseWorker::KIND, w0(), KILL..LATE);
        assert!(!is_valid(settled));
    }

    #[test]
    fn late_attempt_is_excused_by_its_own_link() {
        let kept = |link, from| {
            late("rejected").with_fault(Latency::KIND, links(link), from..LATE + SECOND)
        };
        assert!(is_valid(kept("workers->r1", LATE)));
        assert!(!is_valid(kept("workers->r1", LATE + 1)));
        assert!(!is_valid(kept("workers->r2", LATE)));
    }

    #[test]
    fn no_fault_excuses_an_attempt_that_is_sent_twice() {
        let paused = |story: Story| story.with_fault(PauseWorker::KIND, w0(), KILL..LATE);
        let kept = |story: Story| story.with_fault(Latency::KIND, links("workers->r1"), KILL..LATE);
        for excused in [paused, kept] {
            // With the newest number, and with one before it.
            let again = |attempt| excused(Story::of_four_events().with_receipt(LATE, 1, attempt));
            assert!(!is_valid(again(2)));
            assert!(!is_valid(again(1)));
        }
    }

    #[test]
    fn verdict_counts_requests_and_names_both_attempts() {
        let judged = |story: Story| verdict_line(&CHECKER, &story.history());
        assert_eq!(judged(Story::of_four_events()), "valid: 4 examined, 10 requests received");
        assert_eq!(
            judged(Story::of_four_events().with_receipt(4 * SECOND, 0, 1)),
            "INVALID: 1 of 4 broken; event 0: attempt 1 was received after attempt 2 (lines [19, 25])"
        );
    }

    #[test]
    fn uncounted_request_is_a_violation() {
        let history = Story::of_four_events().with_receipt(4 * SECOND, 0, 3).history();
        assert!(check(&Facts::of(&history)).is_invalid());
    }

    #[test]
    fn unlisted_attempt_is_a_violation() {
        let history = Story::of_four_events().edit(|_, op| {
            if let Op::State(state) = op {
                state.attempts.remove(0);
            }
        });
        assert!(check(&Facts::of(&history.history())).is_invalid());
    }

    #[test]
    fn abandoned_attempt_without_a_fault_is_a_violation() {
        assert!(!is_valid(Story::of_four_events().without(|op| matches!(op, Op::FaultStart(_)))));
    }

    #[test]
    fn pending_event_may_lack_attempts_in_its_read() {
        let status = |status: &'static str| {
            Story::of_four_events().edit(move |_, op| {
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
