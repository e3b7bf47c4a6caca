//! Each due time lies within the bounds of the retry rule, and no claim comes before it.
//!
//! All on the database's clock, so exact under any fault: where `backoff` sees the gaps from outside,
//! this sees what was promised.

use super::{Checker, Examination, Kind, Verdict};
use crate::history::facts::{Facts, RowFacts, StepAt};
use crate::history::transition::Step;
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
            let wish = wished_us(facts, row, at.op.attempt);
            (least.max(wish), most.max(wish))
        }
        Step::Reclaim if at.op.after.abandon_count <= 1 => (0, ROUNDING_US),
        Step::Reclaim => delays(at.op.after.abandon_count - 1),
        Step::Claim | Step::Cancel => return None,
    })
}

/// What a whole 429 or 503 asked for, in microseconds.
fn wished_us(facts: &Facts<'_>, row: &RowFacts<'_>, attempt: u32) -> u64 {
    let receipt = facts.receipt(row, attempt);
    let whole = receipt.filter(|receipt| {
        let status = receipt.end.and_then(|end| end.op.status);
        let settled = row.steps.iter().any(|(step, at)| {
            (*step, at.op.attempt) == (Step::Settle, attempt)
                && at
                    .op
                    .outcome
                    .as_deref()
                    .is_none_or(|outcome| outcome == "rejected")
        });
        matches!(status, Some(429 | 503)) && settled
    });
    let scripted = whole.and_then(|receipt| receipt.begin.op.scripted.as_ref());
    scripted
        .and_then(|scripted| scripted.retry_after_s)
        .map_or(0, |seconds| seconds * 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::story::Story;
    use crate::history::op::Op;

    fn due_after(kind: Step, us: i64) -> Verdict {
        let story = Story::default().edit_steps(kind, |op| op.due_us = Some(op.now_us + us));
        check(&Facts::of(&story.history()))
    }

    #[test]
    fn a_retry_that_is_due_too_early_or_too_late_is_a_violation() {
        // The first failure waits 100 to 125 ms.
        assert!(due_after(Step::Settle, 99_999).is_invalid());
        assert!(due_after(Step::Settle, 100_000).is_valid());
        assert!(due_after(Step::Settle, 127_000).is_invalid());
    }

    #[test]
    fn the_first_abandonment_is_due_at_once() {
        assert!(due_after(Step::Reclaim, 0).is_valid());
        assert!(due_after(Step::Reclaim, 100_000).is_invalid());
        assert!(due_after(Step::Reclaim, -1).is_invalid());
    }

    #[test]
    fn a_claim_before_the_due_time_is_a_violation() {
        let story = Story::default().edit_steps(Step::Claim, |op| {
            if op.attempt == 2 {
                op.now_us -= 100_000;
            }
        });
        assert!(check(&Facts::of(&story.history())).is_invalid());
    }

    #[test]
    fn a_retry_after_that_is_not_followed_is_a_violation() {
        let story = Story::default().edit(|_, op| {
            if let Op::RecvEnd(end) = op
                && end.status == Some(500)
            {
                end.status = Some(503);
            }
            if let Op::RecvBegin(begin) = op
                && begin.attempt == Some(1)
                && let Some(scripted) = &mut begin.scripted
            {
                scripted.retry_after_s = Some(1);
            }
        });
        assert!(check(&Facts::of(&story.history())).is_invalid());
    }
}
