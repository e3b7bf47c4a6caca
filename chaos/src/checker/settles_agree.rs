//! What is settled agrees with what the wire said of that very attempt.
//!
//! `delivered` needs a whole 2xx that was written before the settle; and a whole 2xx that came back in
//! time must not be settled as anything else. What never left the worker's machine is not settled at all.

use super::backoff::SETTLE_SLACK_US;
use super::{Checker, Examination, Kind, Verdict};
use crate::fault::Family;
use crate::history::facts::{At, Facts, FaultFacts, ReceiptFacts};
use crate::history::op::ANSWERED;
use crate::history::transition::{Step, Transition};
use crate::profile::Settings;

/// The register's entry.
pub const CHECKER: Checker = Checker {
    name: "settles_agree",
    invariant: "an attempt is settled as delivered if, and only if, a receiver took it in time",
    kind: Kind::Safety,
    check,
};

/// The outcome of an attempt for which no connection was made.
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
            if is_our_own_shortage(facts, *settle, claimed_us) {
                let attempt = settle.op.attempt;
                let what =
                    format!("event {id}, attempt {attempt} failed of its own machine's shortage");
                examination.broken(what, [settle.seq]);
            }
            let receipt = facts.receipt(row, settle.op.attempt);
            if let Some(what) = disagreement(*settle, receipt, settings)
                && (settle.op.after.status == "delivered"
                    || !receipt.is_some_and(|receipt| may_be_unheard(facts, receipt)))
            {
                let seqs = [settle.seq]
                    .into_iter()
                    .chain(receipt.map(|receipt| receipt.begin.seq));
                let attempt = settle.op.attempt;
                examination.broken(format!("event {id}, attempt {attempt} {what}"), seqs);
            }
        }
    }
    examination.verdict("the store told no settle", "every one agrees".into())
}

/// True when no connection was made while the worker's machine had none to give, and nothing else was in its way.
fn is_our_own_shortage(facts: &Facts<'_>, settle: At<'_, Transition>, claimed_us: u64) -> bool {
    let under_way = |wanted: fn(&FaultFacts<'_>) -> bool| {
        let mut faults = facts.faults.iter();
        faults.any(|fault| wanted(fault) && fault.overlaps(claimed_us, settle.t, 0))
    };
    settle.op.outcome.as_deref() == Some(CONNECT)
        && under_way(|fault| fault.may_exhaust_machine())
        && !under_way(|fault| matches!(fault.family(), Family::Receiver | Family::Network))
}

/// True when a worker may not have heard an answer that was written whole: something lay on its way,
/// or the worker stood still until its deadline had passed.
fn may_be_unheard(facts: &Facts<'_>, receipt: &ReceiptFacts<'_>) -> bool {
    let until_us = receipt.end_us().saturating_add(SETTLE_SLACK_US);
    let mut faults = facts.faults.iter();
    faults.any(|fault| {
        (fault.may_keep(receipt) || fault.may_pause())
            && fault.overlaps(receipt.begin.t, until_us, 0)
    })
}

fn disagreement(
    settle: At<'_, Transition>,
    receipt: Option<&ReceiptFacts<'_>>,
    settings: &Settings,
) -> Option<String> {
    let taken = receipt.filter(|receipt| receipt.is_success());
    if settle.op.after.status == "delivered" {
        let before =
            taken.is_some_and(|receipt| receipt.end.is_some_and(|end| end.seq < settle.seq));
        return (!before).then(|| "is settled as delivered, and no receiver had taken it".into());
    }
    let receipt = taken?;
    let end = receipt.end?;
    // Nine tenths: the deadline began before the request arrived, and the answer had a way to go.
    let in_time = end.t - receipt.begin.t < settings.http_timeout_ms * 900;
    (end.op.how == ANSWERED && in_time).then(|| {
        let outcome = settle.op.outcome.as_deref().unwrap_or("a failure");
        format!("was taken in time and is settled as {outcome}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::said;
    use crate::checker::sample::{links, w0};
    use crate::checker::story::Story;
    use crate::fault::Kind;
    use crate::history::op::{ANSWERED_THEN_RESET, Op, RecvEnd};
    use crate::nemesis::{KillWorker, Latency, PauseWorker, RefuseReceiver, Reset};
    use crate::sim::fault::WORKER_SHORT;

    #[test]
    fn delivered_before_any_receiver_took_it_is_a_violation() {
        let late = Story::default().edit(|t, op| {
            if matches!(
                op,
                Op::RecvEnd(RecvEnd {
                    status: Some(200),
                    ..
                })
            ) {
                *t = Story::END - 1;
            }
        });
        assert!(check(&Facts::of(&late.history())).is_invalid());
    }

    #[test]
    fn a_500_that_is_settled_as_delivered_is_a_violation() {
        let story = Story::default().edit(|_, op| {
            if let Op::RecvEnd(end) = op {
                end.status = Some(500);
            }
        });
        assert!(check(&Facts::of(&story.history())).is_invalid());
    }

    fn is_valid(story: Story) -> bool {
        check(&Facts::of(&story.history())).is_valid()
    }

    /// The first attempt, which is settled as a failure, was answered by a 200 after so long.
    fn taken(how: &'static str, after_us: u64) -> Story {
        Story::default().in_peace().edit(move |t, op| {
            if let Op::RecvEnd(end) = op
                && end.status == Some(500)
            {
                *t = BEGIN + after_us;
                (end.status, end.how) = (Some(200), how.into());
            }
        })
    }

    /// When the first attempt is received, and when it is answered.
    const BEGIN: u64 = 22_000;
    const END: u64 = BEGIN + 1;

    #[test]
    fn a_2xx_in_time_that_is_settled_as_a_failure_is_a_violation_unless_it_was_lost() {
        assert!(!is_valid(taken(ANSWERED, 1)));
        assert!(is_valid(taken(ANSWERED_THEN_RESET, 1)));
        // Nine tenths of a deadline of 1.5 s.
        assert!(!is_valid(taken(ANSWERED, 1_349_999)));
        assert!(is_valid(taken(ANSWERED, 1_350_000)));
    }

    #[test]
    fn a_2xx_that_a_pause_or_its_link_may_have_kept_may_be_settled_as_a_failure() {
        let with =
            |f, target, under_way| is_valid(taken(ANSWERED, 1).with_fault(f, target, under_way));
        let last = END + SETTLE_SLACK_US;
        for (f, target) in [
            (PauseWorker::KIND, w0()),
            (Latency::KIND, links("workers->r1")),
        ] {
            let under_way = |from, to| with(f, target.clone(), (from, to));
            assert!(under_way(1, BEGIN));
            assert!(!under_way(1, BEGIN - 1));
            assert!(under_way(last, last));
            assert!(!under_way(last + 1, last + 1));
        }
        assert!(!with(Latency::KIND, links("workers->r2"), (1, last)));
        assert!(!with(KillWorker::KIND, w0(), (1, last)));
    }

    #[test]
    fn nothing_excuses_that_an_attempt_is_settled_as_delivered_which_nobody_took() {
        let refused = Story::default().edit(|_, op| {
            if let Op::RecvEnd(end) = op {
                end.status = Some(500);
            }
        });
        assert!(!is_valid(refused.with_fault(
            PauseWorker::KIND,
            w0(),
            (1, Story::END)
        )));
    }

    #[test]
    fn what_disagrees_is_told_with_the_lines_of_both() {
        let told = |story: Story| said(&CHECKER, &story.history());
        assert_eq!(
            told(Story::default()),
            "valid: 2 examined, every one agrees"
        );
        assert_eq!(
            told(taken(ANSWERED, 1)),
            "INVALID: 1 of 2 broken; event e, attempt 1 was taken in time and is settled as rejected \
             (lines [8, 6])"
        );
    }

    /// The first attempt has this outcome, and these faults are under way from and to these times.
    fn failed(outcome: &'static str, faults: &[(Kind, (u64, u64))]) -> bool {
        let story = Story::default()
            .in_peace()
            .edit_steps(Step::Settle, |op| op.outcome = Some(outcome.into()));
        let with =
            |story: Story, (kind, under_way): &(Kind, _)| story.with_fault(*kind, w0(), *under_way);
        is_valid(faults.iter().fold(story, with))
    }

    #[test]
    fn a_shortage_of_the_workers_own_that_is_settled_as_a_failure_is_a_violation() {
        // Claimed at 20 ms, settled at 30.
        let always = (1, Story::END);
        let short = (WORKER_SHORT, always);
        assert!(!failed(CONNECT, &[short]));
        assert!(failed("rejected", &[short]));
        for other in [RefuseReceiver::KIND, Reset::KIND] {
            assert!(failed(CONNECT, &[(other, always)]));
            assert!(failed(CONNECT, &[short, (other, (2, Story::END))]));
            assert!(!failed(CONNECT, &[short, (other, (2, 19_999))]));
        }
        assert!(!failed(CONNECT, &[(WORKER_SHORT, (1, 20_000))]));
        assert!(failed(CONNECT, &[(WORKER_SHORT, (1, 19_999))]));
        assert!(!failed(CONNECT, &[(WORKER_SHORT, (30_000, 40_000))]));
        assert!(failed(CONNECT, &[(WORKER_SHORT, (30_001, 40_000))]));
    }
}
