//! Every event that was received more than once has a cause for it, and there are not too many.
//!
//! At least once means that a kill may cost a second request. It does not mean that requests may be
//! repeated for no reason: a run without faults shows none.

use std::collections::BTreeMap;
use std::fmt;

use super::backoff::{SETTLE_SLACK_US, WIRE_SLACK_US, may_have_kept_unsettled};
use super::{Checker, Examination, Kind, Verdict};
use crate::history::facts::{EventFacts, Facts, FaultFacts, ReceiptFacts};
use crate::history::op::ANSWERED_THEN_RESET;
use crate::profile::Settings;

/// The register's entry.
pub const CHECKER: Checker = Checker {
    name: "duplicates",
    invariant: "every further 2xx of an event has exactly one cause, and kills bound their number",
    kind: Kind::Safety,
    check,
};

/// Why an event was received again although a receiver had taken it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// The answer was reset on its way, or the network kept it.
    ResponseLost,
    /// The worker was killed before it had settled the answer.
    WorkerKilled,
    /// The answer came after the deadline of the attempt.
    DispatcherTimeout,
    /// The database could not be told in time, or nobody knows whether it was.
    SettleUnknown,
    /// The lease ran out while the worker stood still, or by a step of the clock.
    LeaseExpired,
    /// The worker lived and was taken for gone.
    HolderPresumedGone,
    /// None of the list.
    Unexplained,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Cause::ResponseLost => "response lost",
            Cause::WorkerKilled => "worker killed in flight",
            Cause::DispatcherTimeout => "dispatcher timeout",
            Cause::SettleUnknown => "settle outcome unknown",
            Cause::LeaseExpired => "lease expired while paused",
            Cause::HolderPresumedGone => "holder presumed gone",
            Cause::Unexplained => "unexplained",
        })
    }
}

/// The cause of each further 2xx of an event: what kept it from being the one that counts.
#[must_use]
pub fn causes(facts: &Facts<'_>, event: &EventFacts<'_>) -> Vec<Cause> {
    let Some(settings) = facts.settings(event) else {
        return Vec::new();
    };
    let successes: Vec<&ReceiptFacts<'_>> = event.successes().collect();
    // The one that the view calls delivered counts; without its word, the last.
    let counted = successes
        .iter()
        .position(|receipt| event.is_called_delivered(receipt))
        .unwrap_or(successes.len().saturating_sub(1));
    let others = successes
        .iter()
        .enumerate()
        .filter(|(at, _)| *at != counted);
    let row = event.id().and_then(|id| facts.rows.get(id));
    let taken_early = |receipt: &ReceiptFacts<'_>| {
        row.is_some_and(|row| row.was_taken_early(receipt.begin.op.attempt))
    };
    others
        .map(|(_, receipt)| {
            let faults = facts.faults_of(event);
            cause(receipt, settings, faults, taken_early(receipt))
        })
        .collect()
}

fn cause<'f>(
    receipt: &ReceiptFacts<'_>,
    settings: &Settings,
    faults: &[FaultFacts<'f>],
    taken_early: bool,
) -> Cause {
    let how = receipt.end.map_or("", |end| end.op.how.as_str());
    let lasted_us = receipt.end_us().saturating_sub(receipt.begin.t);
    // Nine tenths: the deadline began before the request arrived.
    let deadline_us = settings.http_timeout_ms * 900;
    let by = |may: fn(&FaultFacts<'f>) -> bool| {
        let mut faults = faults.iter().filter(|fault| may(fault));
        faults.any(|fault| may_have_kept_unsettled(fault, receipt))
    };
    let on_its_way = || {
        let mut faults = faults.iter().filter(|fault| fault.may_keep(receipt));
        // The answer is on its way for a while after the receiver has written it.
        let until_us = receipt.end_us().saturating_add(SETTLE_SLACK_US);
        faults.any(|fault| fault.overlaps(receipt.begin.t, until_us, WIRE_SLACK_US))
    };
    if how == ANSWERED_THEN_RESET {
        Cause::ResponseLost
    } else if by(FaultFacts::may_kill) {
        Cause::WorkerKilled
    } else if lasted_us >= deadline_us {
        Cause::DispatcherTimeout
    } else if on_its_way() {
        Cause::ResponseLost
    } else if by(FaultFacts::may_lose_settles) {
        // With its lease it could have told the database a little later: a result is kept and told again.
        if taken_early {
            Cause::HolderPresumedGone
        } else {
            Cause::SettleUnknown
        }
    } else if by(FaultFacts::may_expire_leases) {
        Cause::LeaseExpired
    } else if by(FaultFacts::may_lose_presence) {
        Cause::HolderPresumedGone
    } else {
        Cause::Unexplained
    }
}

/// How many further 2xx each cause explains.
#[must_use]
pub fn by_cause(facts: &Facts<'_>) -> BTreeMap<Cause, u64> {
    let mut counts = BTreeMap::new();
    for event in facts.events.values() {
        for cause in causes(facts, event) {
            *counts.entry(cause).or_default() += 1;
        }
    }
    counts
}

fn check(facts: &Facts<'_>) -> Verdict {
    let mut examination = Examination::default();
    let mut in_flight_max = 0;
    for (ordinal, event) in &facts.events {
        let Some(settings) = facts.settings(event) else {
            continue;
        };
        in_flight_max = in_flight_max.max(u64::from(settings.max_in_flight));
        for _ in event.successes() {
            examination.saw_one();
        }
        if causes(facts, event).contains(&Cause::Unexplained) {
            let seqs = event.successes().map(|receipt| receipt.begin.seq);
            examination.broken(
                format!("event {ordinal} was taken more than once for no cause"),
                seqs,
            );
        }
    }
    let counts = by_cause(facts);
    let killed = counts.get(&Cause::WorkerKilled).copied().unwrap_or(0);
    let kills: u64 = facts
        .faults
        .iter()
        .filter(|fault| fault.may_kill())
        .map(|fault| fault.abandons_max() as u64)
        .sum();
    if killed > kills * in_flight_max {
        let what = format!("{killed} duplicates by {kills} kills with {in_flight_max} in flight");
        examination.broken(what, []);
    }
    let note: Vec<String> = counts
        .iter()
        .map(|(cause, n)| format!("{n} {cause}"))
        .collect();
    let note = if note.is_empty() {
        "none".into()
    } else {
        note.join(", ")
    };
    examination.verdict("no event was taken", note)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::said;
    use crate::checker::sample::{KILL, SECOND, Sample, links, w0};
    use crate::checker::story::Story;
    use crate::fault::Kind;
    use crate::history::op::{FaultStart, Op};
    use crate::history::transition::Step;
    use crate::nemesis::{BlackHole, CrashLoop, HangReceiver, OneWay, PauseWorker, StopPostgres};
    use crate::sim::fault::{CLOCK_STEP, PRESENCE_CUT};

    #[test]
    fn a_second_2xx_for_no_reason_is_a_violation() {
        let history = Sample::default().with_receipt(9 * SECOND, 2, 3).history();
        assert!(check(&Facts::of(&history)).is_invalid());
    }

    #[test]
    fn a_second_2xx_after_a_reset_has_its_cause() {
        let history = Sample::default()
            .with_receipt(9 * SECOND, 2, 3)
            .edit(|_, op| {
                if let Op::RecvEnd(end) = op
                    && end.ordinal == Some(2)
                    && end.status == Some(204)
                {
                    end.how = ANSWERED_THEN_RESET.into();
                }
                if let Op::State(state) = op
                    && state.ordinal == 2
                {
                    state.attempts[1].outcome = "reset".into();
                }
            });
        let history = history.history();
        let facts = Facts::of(&history);
        assert!(check(&facts).is_valid());
        assert_eq!(by_cause(&facts), BTreeMap::from([(Cause::ResponseLost, 1)]));
    }

    #[test]
    fn the_2xx_that_the_view_calls_delivered_is_the_one_that_needs_no_cause() {
        // Event 2 is called delivered by its second attempt; the answer to a third was reset.
        let history = Sample::default().with_receipt(9 * SECOND, 2, 3);
        let history = history.edit(|_, op| {
            if let Op::RecvEnd(end) = op
                && end.req.starts_with("r2-3-")
            {
                end.how = ANSWERED_THEN_RESET.into();
            }
        });
        let history = history.history();
        assert_eq!(
            said(&CHECKER, &history),
            "valid: 5 examined, 1 response lost"
        );
    }

    #[test]
    fn a_second_2xx_after_a_fault_of_a_link_has_the_cause_that_this_link_can_be() {
        let cause = |link: &'static str| {
            let history = Sample::default().with_receipt(KILL - 9_000, 1, 1);
            let history = history.edit(move |_, op| {
                if let Op::FaultStart(start) = op {
                    *start = FaultStart::new(1, &OneWay::KIND, links(link));
                }
            });
            let history = history.history();
            by_cause(&Facts::of(&history)).into_keys().next()
        };
        assert_eq!(cause("workers->r1"), Some(Cause::ResponseLost));
        assert_eq!(cause("w0->pg"), Some(Cause::SettleUnknown));
        assert_eq!(cause("workers->r2"), Some(Cause::Unexplained));
        assert_eq!(cause("client->w0"), Some(Cause::Unexplained));
    }

    #[test]
    fn a_second_2xx_of_a_living_worker_whose_lease_was_ended_early_is_of_a_holder_presumed_gone() {
        let cause = |lease_us: i64, link: &'static str| {
            let story = Story::default()
                .edit_steps(Step::Reclaim, |op| {
                    op.lease_until_us = Some(op.now_us + lease_us)
                })
                .edit(move |_, op| {
                    if let Op::FaultStart(start) = op {
                        *start = FaultStart::new(1, &BlackHole::KIND, links(link));
                    }
                });
            let history = story.history();
            by_cause(&Facts::of(&history))
                .into_keys()
                .collect::<Vec<_>>()
        };
        assert_eq!(cause(1, "w0->pg"), [Cause::HolderPresumedGone]);
        assert_eq!(cause(0, "w0->pg"), [Cause::SettleUnknown]);
        assert_eq!(cause(1, "client->w0"), [Cause::Unexplained]);
    }

    #[test]
    fn a_second_2xx_after_a_kill_has_its_cause() {
        let history = Sample::default().with_receipt(KILL - 9_000, 1, 1).history();
        let counts = by_cause(&Facts::of(&history));
        assert_eq!(counts, BTreeMap::from([(Cause::WorkerKilled, 1)]));
        assert_eq!(
            said(&CHECKER, &history),
            "valid: 5 examined, 1 worker killed in flight"
        );
    }

    /// The cause of a second 2xx of event 1 that lasted so long, beside a fault of this kind or none.
    fn cause_of(f: Option<Kind>, lasted_us: u64) -> Cause {
        let begin = KILL - 9_000;
        let sample = Sample::default().without(|op| op.source() == "fault");
        let sample = sample.with_receipt(begin, 1, 1).edit(move |t, op| {
            if matches!(op, Op::RecvEnd(end) if end.req.starts_with("r1-1-")) {
                *t = begin + lasted_us;
            }
        });
        let history = match f {
            Some(f) => sample.with_fault(f, w0(), (begin, begin + SECOND)),
            None => sample,
        };
        let history = history.history();
        let causes = by_cause(&Facts::of(&history));
        let [cause] = causes.keys().copied().collect::<Vec<_>>()[..] else {
            panic!("{causes:?}");
        };
        cause
    }

    #[test]
    fn each_fault_is_a_cause_of_its_own() {
        for (f, cause) in [
            (CrashLoop::KIND, Cause::WorkerKilled),
            (StopPostgres::KIND, Cause::SettleUnknown),
            (PauseWorker::KIND, Cause::LeaseExpired),
            (CLOCK_STEP, Cause::LeaseExpired),
            (PRESENCE_CUT, Cause::HolderPresumedGone),
            (HangReceiver::KIND, Cause::Unexplained),
        ] {
            assert_eq!(cause_of(Some(f), 1_000), cause, "{}", f.name);
        }
    }

    #[test]
    fn an_answer_after_nine_tenths_of_the_deadline_may_be_after_it() {
        assert_eq!(cause_of(None, 1_349_999), Cause::Unexplained);
        assert_eq!(cause_of(None, 1_350_000), Cause::DispatcherTimeout);
    }

    #[test]
    fn what_is_taken_is_counted_and_so_is_what_nothing_explains() {
        let told = |sample: Sample| said(&CHECKER, &sample.history());
        assert_eq!(told(Sample::default()), "valid: 4 examined, none");
        let told = told(Sample::default().with_receipt(9 * SECOND, 2, 3));
        let what = "event 2 was taken more than once for no cause";
        assert!(
            told.starts_with(&format!("INVALID: 1 of 5 broken; {what}")),
            "{told}"
        );
    }

    #[test]
    fn a_kill_explains_as_many_as_a_worker_has_in_flight_and_no_more() {
        let taken_twice = |times: u64, permits: u32| {
            let again = |sample: Sample, n| sample.with_receipt(KILL - 9_000 + n, 1, 1);
            let sample = (0..times)
                .fold(Sample::default(), again)
                .edit(move |_, op| {
                    if let Op::RunStart(start) = op {
                        let settings = start.sections.values_mut();
                        settings.for_each(|settings| settings.max_in_flight = permits);
                    }
                });
            said(&CHECKER, &sample.history())
        };
        assert_eq!(
            taken_twice(2, 2),
            "valid: 6 examined, 2 worker killed in flight"
        );
        assert_eq!(
            taken_twice(3, 2),
            "INVALID: 1 of 7 broken; 3 duplicates by 1 kills with 2 in flight (lines [])"
        );
    }
}
