//! Each due time is within the bounds of the retry rule, and no claim comes before it.
//!
//! All times are on the database clock, so the bounds are exact under any fault. `backoff` judges
//! the gaps that receivers see.

use super::declaration::{Checker, Need, Property, When};
use super::verdict::{Examination, Verdict};
use crate::history::facts::{Facts, RowFacts, StepAt};
use crate::history::transition::{Step, Transition};
use crate::profile::Settings;

/// The declaration of this checker.
pub const CHECKER: Checker = Checker {
    name: "due_times",
    invariant: "an event is due within the bounds of the retry rule and is never claimed before",
    property: Property::Safety,
    when: When::ALWAYS,
    needs: &[Need::Audit],
    check,
};

/// Rounding of a delay, in microseconds.
const ROUNDING_US: u64 = 1_000;
/// The longest delay of an event that was released because of its host, in microseconds.
const HOST_DELAY_US: u64 = 60_000_000;

fn check(facts: &Facts<'_>) -> Verdict {
    let mut examination = Examination::default();
    for (id, row) in &facts.rows {
        let Some(settings) = facts.settings_of(row) else {
            continue;
        };
        for step in &row.steps {
            let Some((least, most)) = bounds(facts, row, step, settings) else {
                continue;
            };
            examination.saw_one();
            let (kind, at) = step;
            let delay = at.op.due_us.map(|due| due - at.op.now_us);
            let within = delay
                .and_then(|delay| u64::try_from(delay).ok())
                .is_some_and(|delay| (least..=most).contains(&delay));
            if !within {
                let what = format!(
                    "event {id}: due {delay:?} us after the {kind:?} of attempt {}, expected {least} to {most} us",
                    at.op.attempt
                );
                examination.broken(what, [at.seq]);
            }
        }
        for ((_, before), (step, claim)) in row.pairs() {
            let early = before.op.due_us.is_some_and(|due| claim.op.now_us < due);
            if *step == Step::Claim && early {
                let what = format!("event {id} was claimed before it was due");
                examination.broken(what, [before.seq, claim.seq]);
            }
        }
    }
    examination.verdict("no due time was recorded", "all within bounds".into())
}

/// Returns the least and the greatest delay after a transition, in microseconds, if it sets one.
fn bounds(
    facts: &Facts<'_>,
    row: &RowFacts<'_>,
    (step, at): &StepAt<'_>,
    settings: &Settings,
) -> Option<(u64, u64)> {
    if at.op.after.is_final() {
        return None;
    }
    let delays =
        |n: u32| (settings.delay_ms(n) * 1_000, settings.delay_ms_max(n) * 1_000 + ROUNDING_US);
    Some(match step {
        Step::Accept | Step::Replay => (0, 0),
        Step::Release => (0, HOST_DELAY_US),
        Step::Settle => {
            let (least, most) = delays(at.op.after.failure_count);
            let requested = requested_us(facts, row, at.op);
            (least.max(requested), most.max(requested))
        }
        Step::Reclaim if at.op.after.abandon_count <= 1 => (0, ROUNDING_US),
        Step::Reclaim => delays(at.op.after.abandon_count - 1),
        Step::Claim | Step::Cancel => return None,
    })
}

/// Returns the delay that a complete 429 or 503 requested, in microseconds.
fn requested_us(facts: &Facts<'_>, row: &RowFacts<'_>, settle: &Transition) -> u64 {
    let receipt = facts.receipt(row, settle.attempt);
    // A complete response is recorded as rejected. With another outcome, no header was read.
    let outcome = settle.outcome.as_deref();
    let whole = receipt.filter(|_| outcome.is_none_or(|outcome| outcome == "rejected"));
    let asks = whole.filter(|receipt| {
        let status = receipt.end.and_then(|end| end.op.status);
        matches!(status, Some(429 | 503))
    });
    let scripted = asks.and_then(|receipt| receipt.begin.op.scripted.as_ref());
    scripted.and_then(|scripted| scripted.retry_after_s).map_or(0, |seconds| seconds * 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::story::Story;
    use crate::checker::verdict_line;
    use crate::history::op::Op;

    fn is_valid(story: Story) -> bool {
        check(&Facts::of(&story.history())).is_valid()
    }

    /// The story with every claim one minute later, so that no claim is early.
    fn with_late_claims() -> Story {
        Story::of_one_event().edit_steps(Step::Claim, |op| op.now_us += 60_000_000)
    }

    fn due_after(kind: Step, us: i64) -> bool {
        is_valid(with_late_claims().edit_steps(kind, |op| op.due_us = Some(op.now_us + us)))
    }

    #[test]
    fn retry_is_due_within_the_rule_to_the_microsecond() {
        // The delay of the first failure is 100 to 125 ms plus rounding.
        let due = |us| due_after(Step::Settle, us);
        assert_eq!([99_999, 100_000].map(due), [false, true]);
        assert_eq!([126_000, 126_001].map(due), [true, false]);
    }

    #[test]
    fn violation_states_delay_and_bounds() {
        let judged = |story: Story| verdict_line(&CHECKER, &story.history());
        assert_eq!(judged(Story::of_one_event()), "valid: 3 examined, all within bounds");
        let early = |op: &mut Transition| op.due_us = Some(op.now_us + 5);
        assert_eq!(
            judged(Story::of_one_event().edit_steps(Step::Settle, early)),
            "INVALID: 1 of 3 broken; event e: due Some(5) us after the Settle of attempt 1, expected \
             100000 to 126000 us (lines [8])"
        );
        assert!(!is_valid(Story::of_one_event().edit_steps(Step::Settle, |op| op.due_us = None)));
    }

    #[test]
    fn first_reclaim_is_due_immediately() {
        let due = |us| due_after(Step::Reclaim, us);
        assert_eq!([-1, 0].map(due), [false, true]);
        assert_eq!([1_000, 1_001].map(due), [true, false]);
    }

    #[test]
    fn each_further_reclaim_is_due_by_the_retry_rule() {
        let due = |times, us| {
            is_valid(with_late_claims().edit_steps(Step::Reclaim, |op| {
                op.after.abandon_count = times;
                op.due_us = Some(op.now_us + us);
            }))
        };
        for (times, least, most) in [(2, 100_000, 126_000), (3, 200_000, 251_000)] {
            assert_eq!([least - 1, least].map(|us| due(times, us)), [false, true]);
            assert_eq!([most, most + 1].map(|us| due(times, us)), [true, false]);
        }
    }

    #[test]
    fn released_event_is_due_within_the_host_delay() {
        let longest = i64::try_from(HOST_DELAY_US).expect("a minute");
        let due = |us| {
            let claimed = Story::accepted().then(20, Step::Claim, |_| {});
            is_valid(claimed.then(30, Step::Release, |op| op.due_us = Some(op.now_us + us)))
        };
        assert_eq!([-1, 0].map(due), [false, true]);
        assert_eq!([longest, longest + 1].map(due), [true, false]);
    }

    #[test]
    fn claim_before_the_due_time_is_a_violation() {
        let claimed = |before_us: i64| {
            is_valid(Story::of_one_event().edit_steps(Step::Claim, |op| {
                // Due at 140 ms, claimed at 150 ms.
                if op.attempt == 2 {
                    op.now_us -= 10_000 + before_us;
                }
            }))
        };
        assert_eq!([1, 0].map(claimed), [false, true]);
    }

    /// Returns true if the checker accepts this delay after a first attempt that got this status
    /// and a Retry-After of one second, and was settled with this outcome.
    fn is_due_after(status: u16, outcome: Option<&str>, due_us: i64) -> bool {
        let story = with_late_claims().edit(|_, op| {
            if let Op::RecvEnd(end) = op
                && end.status == Some(500)
            {
                end.status = Some(status);
            }
            if let Op::RecvBegin(begin) = op
                && begin.attempt == Some(1)
                && let Some(scripted) = &mut begin.scripted
            {
                scripted.retry_after_s = Some(1);
            }
        });
        is_valid(story.edit_steps(Step::Settle, |op| {
            op.outcome = outcome.map(str::to_owned);
            op.due_us = Some(op.now_us + due_us);
        }))
    }

    #[test]
    fn longer_retry_after_sets_the_due_time() {
        for status in [429, 503] {
            for outcome in [Some("rejected"), None] {
                let due = |us| is_due_after(status, outcome, us);
                assert_eq!([999_999, 1_000_000].map(due), [false, true]);
                assert!(!due(1_000_001));
            }
        }
    }

    #[test]
    fn retry_after_of_other_responses_is_ignored() {
        for (status, outcome) in [(500, "rejected"), (503, "body")] {
            let due = |us| is_due_after(status, Some(outcome), us);
            assert_eq!([100_000, 1_000_000].map(due), [true, false]);
        }
    }
}
