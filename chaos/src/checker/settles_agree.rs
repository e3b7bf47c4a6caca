//! Each settle agrees with the response of its attempt.
//!
//! `delivered` needs a complete 2xx before the settle, and a complete 2xx in time must be settled
//! as `delivered`. An attempt that fails by local exhaustion is released and not settled.

use super::backoff::SETTLE_SLACK_US;
use super::declaration::{Checker, Need, Property, When};
use super::verdict::{Examination, Verdict};
use crate::fault::Family;
use crate::history::facts::{At, Facts, FaultFacts, ReceiptFacts};
use crate::history::op::ANSWERED;
use crate::history::transition::{Step, Transition};
use crate::profile::Settings;

/// The declaration of this checker.
pub const CHECKER: Checker = Checker {
    name: "settles_agree",
    invariant: "an attempt is settled as delivered if and only if a receiver sent a complete 2xx in time",
    property: Property::Safety,
    when: When::ALWAYS,
    needs: &[Need::Audit],
    check,
};

/// The outcome of an attempt without a connection.
const CONNECT: &str = "connect";

fn check(facts: &Facts<'_>) -> Verdict {
    let mut examination = Examination::default();
    for (id, row) in &facts.rows {
        let Some(settings) = facts.settings_of(row) else {
            continue;
        };
        let mut claimed_us = 0;
        for (step, at) in &row.steps {
            if *step == Step::Claim {
                claimed_us = at.t;
            }
            if *step != Step::Settle {
                continue;
            }
            let settle = at;
            examination.saw_one();
            if is_local_exhaustion(facts, *settle, claimed_us) {
                let attempt = settle.op.attempt;
                let what = format!(
                    "event {id}, attempt {attempt} is settled as a failure of local exhaustion"
                );
                examination.broken(what, [settle.seq]);
            }
            let receipt = facts.receipt(row, settle.op.attempt);
            if let Some(what) = disagreement(*settle, receipt, settings)
                && (settle.op.after.status == "delivered"
                    || !receipt.is_some_and(|receipt| may_have_missed_the_response(facts, receipt)))
            {
                let seqs = [settle.seq].into_iter().chain(receipt.map(|receipt| receipt.begin.seq));
                let attempt = settle.op.attempt;
                examination.broken(format!("event {id}, attempt {attempt} {what}"), seqs);
            }
        }
    }
    examination.verdict("no settle was recorded", "every settle agrees".into())
}

/// Returns true if the attempt had no connection while the worker's machine was exhausted, and no
/// fault of the receiver or the network explains it.
fn is_local_exhaustion(facts: &Facts<'_>, settle: At<'_, Transition>, claimed_us: u64) -> bool {
    let under_way = |wanted: fn(&FaultFacts<'_>) -> bool| {
        let mut faults = facts.faults.iter();
        faults.any(|fault| wanted(fault) && fault.overlaps(claimed_us, settle.t, 0))
    };
    settle.op.outcome.as_deref() == Some(CONNECT)
        && under_way(|fault| fault.may_exhaust_machine())
        && !under_way(|fault| matches!(fault.family(), Family::Receiver | Family::Network))
}

/// Returns true if a complete response may not have reached its worker: its link was faulty, or the
/// worker was paused until the deadline passed.
fn may_have_missed_the_response(facts: &Facts<'_>, receipt: &ReceiptFacts<'_>) -> bool {
    let until_us = receipt.end_us().saturating_add(SETTLE_SLACK_US);
    let mut faults = facts.faults.iter();
    faults.any(|fault| {
        (fault.may_lose_or_delay(receipt) || fault.may_pause())
            && fault.overlaps(receipt.begin.t, until_us, 0)
    })
}

fn disagreement(
    settle: At<'_, Transition>,
    receipt: Option<&ReceiptFacts<'_>>,
    settings: &Settings,
) -> Option<String> {
    let success = receipt.filter(|receipt| receipt.is_success());
    if settle.op.after.status == "delivered" {
        let before =
            success.is_some_and(|receipt| receipt.end.is_some_and(|end| end.seq < settle.seq));
        return (!before).then(|| "is settled as delivered, and no receiver had sent a 2xx".into());
    }
    let receipt = success?;
    let end = receipt.end?;
    // Nine tenths, because the deadline begins before the request arrives and the response needs
    // time.
    let in_time = end.t - receipt.begin.t < settings.http_timeout_ms * 900;
    (end.op.how == ANSWERED && in_time).then(|| {
        let outcome = settle.op.outcome.as_deref().unwrap_or("a failure");
        format!("got a 2xx in time and is settled as {outcome}")
    })
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;
    use crate::checker::story::Story;
    use crate::checker::story::ops::{links, w0};
    use crate::checker::verdict_line;
    use crate::fault::Kind;
    use crate::history::op::{ANSWERED_THEN_RESET, Op, RecvEnd};
    use crate::nemesis::{KillWorker, Latency, PauseWorker, RefuseReceiver, Reset};
    use crate::sim::kinds::WORKER_SHORT;

    #[test]
    fn delivered_before_the_2xx_is_a_violation() {
        let late = Story::of_one_event().edit(|t, op| {
            if matches!(op, Op::RecvEnd(RecvEnd { status: Some(200), .. })) {
                *t = Story::END - 1;
            }
        });
        assert!(check(&Facts::of(&late.history())).is_invalid());
    }

    #[test]
    fn delivered_after_a_500_is_a_violation() {
        let story = Story::of_one_event().edit(|_, op| {
            if let Op::RecvEnd(end) = op {
                end.status = Some(500);
            }
        });
        assert!(check(&Facts::of(&story.history())).is_invalid());
    }

    fn is_valid(story: Story) -> bool {
        check(&Facts::of(&story.history())).is_valid()
    }

    /// The first attempt is settled as a failure and got a 200 after this time.
    fn failed_with_200(how: &'static str, after_us: u64) -> Story {
        Story::of_one_event().without_faults().edit(move |t, op| {
            if let Op::RecvEnd(end) = op
                && end.status == Some(500)
            {
                *t = BEGIN + after_us;
                (end.status, end.how) = (Some(200), how.into());
            }
        })
    }

    /// Times of the request and the response of the first attempt.
    const BEGIN: u64 = 22_000;
    const END: u64 = BEGIN + 1;

    #[test]
    fn failure_after_a_2xx_in_time_is_a_violation() {
        assert!(!is_valid(failed_with_200(ANSWERED, 1)));
        assert!(is_valid(failed_with_200(ANSWERED_THEN_RESET, 1)));
        // Nine tenths of a deadline of 1.5 s.
        assert!(!is_valid(failed_with_200(ANSWERED, 1_349_999)));
        assert!(is_valid(failed_with_200(ANSWERED, 1_350_000)));
    }

    #[test]
    fn pause_and_link_excuse_a_failure_after_a_2xx() {
        let with = |f, target, under_way| {
            is_valid(failed_with_200(ANSWERED, 1).with_fault(f, target, under_way))
        };
        let last = END + SETTLE_SLACK_US;
        for (f, target) in [(PauseWorker::KIND, w0()), (Latency::KIND, links("workers->r1"))] {
            let under_way = |from, to| with(f, target.clone(), from..to);
            assert!(under_way(1, BEGIN));
            assert!(!under_way(1, BEGIN - 1));
            assert!(under_way(last, last));
            assert!(!under_way(last + 1, last + 1));
        }
        assert!(!with(Latency::KIND, links("workers->r2"), 1..last));
        assert!(!with(KillWorker::KIND, w0(), 1..last));
    }

    #[test]
    fn no_fault_excuses_delivered_without_a_2xx() {
        let refused = Story::of_one_event().edit(|_, op| {
            if let Op::RecvEnd(end) = op {
                end.status = Some(500);
            }
        });
        assert!(!is_valid(refused.with_fault(PauseWorker::KIND, w0(), 1..Story::END)));
    }

    #[test]
    fn violation_states_the_lines_of_settle_and_request() {
        let judged = |story: Story| verdict_line(&CHECKER, &story.history());
        assert_eq!(judged(Story::of_one_event()), "valid: 2 examined, every settle agrees");
        assert_eq!(
            judged(failed_with_200(ANSWERED, 1)),
            "INVALID: 1 of 2 broken; event e, attempt 1 got a 2xx in time and is settled as rejected \
             (lines [8, 6])"
        );
    }

    /// Returns true if the checker accepts this outcome of the first attempt beside these faults.
    fn failed(outcome: &'static str, faults: &[(Kind, Range<u64>)]) -> bool {
        let story = Story::of_one_event()
            .without_faults()
            .edit_steps(Step::Settle, |op| op.outcome = Some(outcome.into()));
        let with = |story: Story, (kind, under_way): &(Kind, Range<u64>)| {
            story.with_fault(*kind, w0(), under_way.clone())
        };
        is_valid(faults.iter().fold(story, with))
    }

    #[test]
    fn local_exhaustion_settled_as_a_failure_is_a_violation() {
        // Claimed at 20 ms, settled at 30.
        let always = 1..Story::END;
        let short = || (WORKER_SHORT, always.clone());
        assert!(!failed(CONNECT, &[short()]));
        assert!(failed("rejected", &[short()]));
        for other in [RefuseReceiver::KIND, Reset::KIND] {
            assert!(failed(CONNECT, &[(other, always.clone())]));
            assert!(failed(CONNECT, &[short(), (other, 2..Story::END)]));
            assert!(!failed(CONNECT, &[short(), (other, 2..19_999)]));
        }
        assert!(!failed(CONNECT, &[(WORKER_SHORT, 1..20_000)]));
        assert!(failed(CONNECT, &[(WORKER_SHORT, 1..19_999)]));
        assert!(!failed(CONNECT, &[(WORKER_SHORT, 30_000..40_000)]));
        assert!(failed(CONNECT, &[(WORKER_SHORT, 30_001..40_000)]));
    }
}
