//! Each due time lies within the bounds of the retry rule, and no claim comes before it.
//!
//! All on the database's clock, so exact under any fault: where `backoff` sees the gaps from outside,
//! this sees what was promised.

use super::{Checker, Examination, Kind, Verdict};
use crate::history::facts::{Facts, RowFacts, StepAt};
use crate::history::transition::{Step, Transition};
use crate::profile::Settings;

/// The register's entry.
pub const CHECKER: Checker = Checker {
    name: "due_times",
    invariant: "an event is due within the bounds of the retry rule and is never claimed before",
    kind: Kind::Safety,
    check,
};

/// Rounding of a delay, in microseconds.
const ROUNDING_US: u64 = 1_000;
/// The longest time that an event stays away because of its host, in microseconds.
const DEFERRAL_US: u64 = 60_000_000;

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
                    "event {id}: due {delay:?} us after the {kind:?} of attempt {}, not {least} to {most}",
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
    examination.verdict("the store told no due time", "all within bounds".into())
}

/// The least and the greatest delay after a transition, in microseconds, where it sets one.
fn bounds(
    facts: &Facts<'_>,
    row: &RowFacts<'_>,
    (step, at): &StepAt<'_>,
    settings: &Settings,
) -> Option<(u64, u64)> {
    if at.op.after.is_final() {
        return None;
    }
    let delays = |n: u32| {
        (
            settings.delay_ms(n) * 1_000,
            settings.delay_ms_max(n) * 1_000 + ROUNDING_US,
        )
    };
    Some(match step {
        Step::Accept | Step::Replay => (0, 0),
        Step::Release => (0, DEFERRAL_US),
        Step::Settle => {
            let (least, most) = delays(at.op.after.failure_count);
            let wish = wished_us(facts, row, at.op);
            (least.max(wish), most.max(wish))
        }
        Step::Reclaim if at.op.after.abandon_count <= 1 => (0, ROUNDING_US),
        Step::Reclaim => delays(at.op.after.abandon_count - 1),
        Step::Claim | Step::Cancel => return None,
    })
}

/// What a whole 429 or 503 asked for, in microseconds.
fn wished_us(facts: &Facts<'_>, row: &RowFacts<'_>, settle: &Transition) -> u64 {
    let receipt = facts.receipt(row, settle.attempt);
    // What came through whole is rejected; with any other outcome, no header was read.
    let outcome = settle.outcome.as_deref();
    let whole = receipt.filter(|_| outcome.is_none_or(|outcome| outcome == "rejected"));
    let asks = whole.filter(|receipt| {
        let status = receipt.end.and_then(|end| end.op.status);
        matches!(status, Some(429 | 503))
    });
    let scripted = asks.and_then(|receipt| receipt.begin.op.scripted.as_ref());
    scripted
        .and_then(|scripted| scripted.retry_after_s)
        .map_or(0, |seconds| seconds * 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::said;
    use crate::checker::story::Story;
    use crate::history::op::Op;

    fn is_valid(story: Story) -> bool {
        check(&Facts::of(&story.history())).is_valid()
    }

    /// The story with every claim a minute later, so that none is early whatever is due when.
    fn unhurried() -> Story {
        Story::default().edit_steps(Step::Claim, |op| op.now_us += 60_000_000)
    }

    fn due_after(kind: Step, us: i64) -> bool {
        is_valid(unhurried().edit_steps(kind, |op| op.due_us = Some(op.now_us + us)))
    }

    #[test]
    fn a_retry_that_is_due_too_early_or_too_late_is_a_violation() {
        // The first failure waits 100 to 125 ms, and what rounding adds.
        let due = |us| due_after(Step::Settle, us);
        assert_eq!([99_999, 100_000].map(due), [false, true]);
        assert_eq!([126_000, 126_001].map(due), [true, false]);
    }

    #[test]
    fn what_is_due_and_was_to_be_due_is_told() {
        let told = |story: Story| said(&CHECKER, &story.history());
        assert_eq!(
            told(Story::default()),
            "valid: 3 examined, all within bounds"
        );
        let early = |op: &mut Transition| op.due_us = Some(op.now_us + 5);
        assert_eq!(
            told(Story::default().edit_steps(Step::Settle, early)),
            "INVALID: 1 of 3 broken; event e: due Some(5) us after the Settle of attempt 1, not 100000 to \
             126000 (lines [8])"
        );
        assert!(!is_valid(
            Story::default().edit_steps(Step::Settle, |op| op.due_us = None)
        ));
    }

    #[test]
    fn the_first_abandonment_is_due_at_once() {
        let due = |us| due_after(Step::Reclaim, us);
        assert_eq!([-1, 0].map(due), [false, true]);
        assert_eq!([1_000, 1_001].map(due), [true, false]);
    }

    #[test]
    fn each_further_abandonment_is_due_by_the_retry_rule() {
        let due = |times, us| {
            is_valid(unhurried().edit_steps(Step::Reclaim, |op| {
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
    fn an_event_that_went_back_unsent_is_due_within_the_deferral_of_a_host() {
        let longest = i64::try_from(DEFERRAL_US).expect("a minute");
        let due = |us| {
            let claimed = Story::accepted().then(20, Step::Claim, |_| {});
            is_valid(claimed.then(30, Step::Release, |op| op.due_us = Some(op.now_us + us)))
        };
        assert_eq!([-1, 0].map(due), [false, true]);
        assert_eq!([longest, longest + 1].map(due), [true, false]);
    }

    #[test]
    fn a_claim_before_the_due_time_is_a_violation() {
        let claimed = |before_us: i64| {
            is_valid(Story::default().edit_steps(Step::Claim, |op| {
                // Due 140 ms after the begin, claimed after 150.
                if op.attempt == 2 {
                    op.now_us -= 10_000 + before_us;
                }
            }))
        };
        assert_eq!([1, 0].map(claimed), [false, true]);
    }

    /// The first attempt is answered by this status and a Retry-After of a second, which the settle
    /// calls so, and is due so much later.
    fn asked(status: u16, outcome: Option<&str>, due_us: i64) -> bool {
        let story = unhurried().edit(|_, op| {
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
    fn a_retry_after_that_is_longer_than_the_delay_is_followed_to_the_microsecond() {
        for status in [429, 503] {
            for outcome in [Some("rejected"), None] {
                let due = |us| asked(status, outcome, us);
                assert_eq!([999_999, 1_000_000].map(due), [false, true]);
                assert!(!due(1_000_001));
            }
        }
    }

    #[test]
    fn a_retry_after_of_another_status_or_of_no_whole_answer_is_not_followed() {
        for (status, outcome) in [(500, "rejected"), (503, "body")] {
            let due = |us| asked(status, Some(outcome), us);
            assert_eq!([100_000, 1_000_000].map(due), [true, false]);
        }
    }
}
