//! Every duplicate has one cause, and kills bound the number of those that they cause.
//!
//! Delivery is at least once, so a kill may cost a second request. A run without faults has no
//! duplicate.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::backoff::{SETTLE_SLACK_US, WIRE_SLACK_US, may_have_kept_unsettled};
use super::declaration::{Checker, Property, When};
use super::verdict::{Examination, Verdict};
use crate::history::facts::{EventFacts, Facts, FaultFacts, ReceiptFacts, RowFacts};
use crate::history::op::ANSWERED_THEN_RESET;
use crate::profile::Settings;

/// The declaration of this checker.
pub const CHECKER: Checker = Checker {
    name: "duplicates",
    invariant: "every further 2xx of an event has one cause, and kills cause no more than requests were open",
    property: Property::Safety,
    when: When::ALWAYS,
    needs: &[],
    check,
};

/// The cause of a further 2xx of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DuplicateCause {
    /// The response was reset, lost or late on its link.
    ResponseLost,
    /// The worker was killed before it settled the response.
    WorkerKilled,
    /// The response came after the deadline of the attempt.
    DispatcherTimeout,
    /// The settle failed, or its outcome is unknown.
    SettleUnknown,
    /// The lease expired while the worker was paused, or by a step of the database clock.
    LeaseExpired,
    /// The worker ran and lost its presence.
    HolderPresumedGone,
    /// No fault explains it.
    Unexplained,
}

impl fmt::Display for DuplicateCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DuplicateCause::ResponseLost => "response lost",
            DuplicateCause::WorkerKilled => "worker killed in flight",
            DuplicateCause::DispatcherTimeout => "dispatcher timeout",
            DuplicateCause::SettleUnknown => "settle outcome unknown",
            DuplicateCause::LeaseExpired => "lease expired while paused",
            DuplicateCause::HolderPresumedGone => "holder presumed gone",
            DuplicateCause::Unexplained => "unexplained",
        })
    }
}

/// Returns the cause of each 2xx of an event beyond the one that counts.
pub fn causes(facts: &Facts<'_>, event: &EventFacts<'_>) -> Vec<DuplicateCause> {
    let Some(settings) = facts.settings(event) else {
        return Vec::new();
    };
    let successes: Vec<&ReceiptFacts<'_>> = event.successes().collect();
    // The 2xx of the attempt that is recorded as delivered counts, or else the last one.
    let counted = successes
        .iter()
        .position(|receipt| event.is_called_delivered(receipt))
        .unwrap_or(successes.len().saturating_sub(1));
    let others = successes.iter().enumerate().filter(|(at, _)| *at != counted);
    let causes = Causes {
        event,
        settings,
        faults: facts.faults_of(event),
        row: event.id().and_then(|id| facts.rows.get(id)),
    };
    others.map(|(_, receipt)| causes.of(receipt)).collect()
}

/// The facts of an event that decide the causes of its duplicates.
struct Causes<'f, 'h> {
    event: &'f EventFacts<'h>,
    settings: &'f Settings,
    faults: &'f [FaultFacts<'h>],
    row: Option<&'f RowFacts<'h>>,
}

impl<'h> Causes<'_, 'h> {
    fn of(&self, receipt: &ReceiptFacts<'_>) -> DuplicateCause {
        let how = receipt.end.map_or("", |end| end.op.how.as_str());
        let duration_us = receipt.end_us().saturating_sub(receipt.begin.t);
        // Nine tenths, because the deadline begins before the request arrives.
        let deadline_us = self.settings.http_timeout_ms * 900;
        if how == ANSWERED_THEN_RESET {
            DuplicateCause::ResponseLost
        } else if is_unsettled_at_a_kill(self.event, receipt, self.faults) {
            DuplicateCause::WorkerKilled
        } else if duration_us >= deadline_us {
            DuplicateCause::DispatcherTimeout
        } else if self.is_late_on_its_link(receipt) {
            DuplicateCause::ResponseLost
        } else if self.is_unsettled_by(FaultFacts::may_lose_settles, receipt) {
            // A worker that keeps its lease repeats the settle until it is committed.
            let attempt = receipt.begin.op.attempt;
            if self.row.is_some_and(|row| row.was_taken_early(attempt)) {
                DuplicateCause::HolderPresumedGone
            } else {
                DuplicateCause::SettleUnknown
            }
        } else if self.is_unsettled_by(FaultFacts::may_expire_leases, receipt) {
            DuplicateCause::LeaseExpired
        } else if self.is_unsettled_by(FaultFacts::may_lose_presence, receipt) {
            DuplicateCause::HolderPresumedGone
        } else {
            DuplicateCause::Unexplained
        }
    }

    fn is_unsettled_by(
        &self,
        may: fn(&FaultFacts<'h>) -> bool,
        receipt: &ReceiptFacts<'_>,
    ) -> bool {
        let mut faults = self.faults.iter().filter(|fault| may(fault));
        faults.any(|fault| may_have_kept_unsettled(fault, receipt))
    }

    fn is_late_on_its_link(&self, receipt: &ReceiptFacts<'_>) -> bool {
        let mut faults = self.faults.iter().filter(|fault| fault.may_lose_or_delay(receipt));
        // The response is on its link for a while after the receiver has written it.
        let until_us = receipt.end_us().saturating_add(SETTLE_SLACK_US);
        faults.any(|fault| fault.overlaps(receipt.begin.t, until_us, WIRE_SLACK_US))
    }
}

/// Returns true if a request was open at a kill, or answered and not settled.
fn is_unsettled_at_a_kill(
    event: &EventFacts<'_>,
    receipt: &ReceiptFacts<'_>,
    faults: &[FaultFacts<'_>],
) -> bool {
    let mut kills = faults.iter().filter(|fault| fault.may_kill());
    !event.is_called_settled(receipt) && kills.any(|kill| may_have_kept_unsettled(kill, receipt))
}

/// Counts the attempts whose request was open at a kill, or answered and not settled. Requests of
/// one attempt count once, because a worker sends an attempt once.
fn open_at_kills(facts: &Facts<'_>) -> u64 {
    let mut attempts = BTreeSet::new();
    for (ordinal, event) in &facts.events {
        let faults = facts.faults_of(event);
        let receipts = event.receipts.iter();
        for receipt in receipts.filter(|r| is_unsettled_at_a_kill(event, r, faults)) {
            let begin = receipt.begin;
            let name = begin.op.attempt.map_or_else(
                || format!("request {}", begin.op.req),
                |attempt| format!("attempt {attempt}"),
            );
            attempts.insert((*ordinal, name));
        }
    }
    attempts.len() as u64
}

/// Counts the further 2xx of all events by cause.
pub fn by_cause(facts: &Facts<'_>) -> BTreeMap<DuplicateCause, u64> {
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
    for (ordinal, event) in &facts.events {
        if facts.settings(event).is_none() {
            continue;
        }
        for _ in event.successes() {
            examination.saw_one();
        }
        if causes(facts, event).contains(&DuplicateCause::Unexplained) {
            let seqs = event.successes().map(|receipt| receipt.begin.seq);
            examination.broken(
                format!("event {ordinal} was delivered more than once and no fault explains it"),
                seqs,
            );
        }
    }
    let counts = by_cause(facts);
    let killed = counts.get(&DuplicateCause::WorkerKilled).copied().unwrap_or(0);
    let open = open_at_kills(facts);
    if killed > open {
        let what = format!(
            "{killed} duplicates are attributed to kills, and {open} requests were open or unsettled at them"
        );
        let kills = facts.faults.iter().filter(|fault| fault.may_kill());
        examination.broken(what, kills.map(|kill| kill.start.seq));
    }
    let note: Vec<String> = counts.iter().map(|(cause, n)| format!("{n} {cause}")).collect();
    let note = if note.is_empty() { "none".into() } else { note.join(", ") };
    examination.verdict("no event was delivered", note)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::story::ops::{links, w0};
    use crate::checker::story::{KILL, SECOND, Story};
    use crate::checker::verdict_line;
    use crate::fault::Kind;
    use crate::history::op::{FaultStart, Op};
    use crate::history::transition::Step;
    use crate::nemesis::{BlackHole, CrashLoop, HangReceiver, OneWay, PauseWorker, StopPostgres};
    use crate::sim::kinds::{CLOCK_STEP, PRESENCE_CUT};

    #[test]
    fn unexplained_second_2xx_is_a_violation() {
        let history = Story::of_four_events().with_receipt(9 * SECOND, 2, 3).history();
        assert!(check(&Facts::of(&history)).is_invalid());
    }

    #[test]
    fn response_that_was_reset_causes_a_duplicate() {
        let history = Story::of_four_events().with_receipt(9 * SECOND, 2, 3).edit(|_, op| {
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
        assert_eq!(by_cause(&facts), BTreeMap::from([(DuplicateCause::ResponseLost, 1)]));
    }

    #[test]
    fn recorded_delivery_needs_no_cause() {
        // Event 2 is recorded as delivered by attempt 2, and the response of attempt 3 was reset.
        let history = Story::of_four_events().with_receipt(9 * SECOND, 2, 3);
        let history = history.edit(|_, op| {
            if let Op::RecvEnd(end) = op
                && end.req.starts_with("r2-3-")
            {
                end.how = ANSWERED_THEN_RESET.into();
            }
        });
        let history = history.history();
        assert_eq!(verdict_line(&CHECKER, &history), "valid: 5 examined, 1 response lost");
    }

    #[test]
    fn fault_of_a_link_causes_duplicates_of_its_end() {
        let cause = |link: &'static str| {
            let history = Story::of_four_events().with_receipt(KILL - 9_000, 1, 1);
            let history = history.edit(move |_, op| {
                if let Op::FaultStart(start) = op {
                    *start = FaultStart::new(1, &OneWay::KIND, links(link));
                }
            });
            let history = history.history();
            by_cause(&Facts::of(&history)).into_keys().next()
        };
        assert_eq!(cause("workers->r1"), Some(DuplicateCause::ResponseLost));
        assert_eq!(cause("w0->pg"), Some(DuplicateCause::SettleUnknown));
        assert_eq!(cause("workers->r2"), Some(DuplicateCause::Unexplained));
        assert_eq!(cause("client->w0"), Some(DuplicateCause::Unexplained));
    }

    #[test]
    fn early_reclaim_of_a_running_worker_causes_a_duplicate() {
        let cause = |lease_us: i64, link: &'static str| {
            let story = Story::of_one_event()
                .edit_steps(Step::Reclaim, |op| op.lease_until_us = Some(op.now_us + lease_us))
                .edit(move |_, op| {
                    if let Op::FaultStart(start) = op {
                        *start = FaultStart::new(1, &BlackHole::KIND, links(link));
                    }
                });
            let history = story.history();
            by_cause(&Facts::of(&history)).into_keys().collect::<Vec<_>>()
        };
        assert_eq!(cause(1, "w0->pg"), [DuplicateCause::HolderPresumedGone]);
        assert_eq!(cause(0, "w0->pg"), [DuplicateCause::SettleUnknown]);
        assert_eq!(cause(1, "client->w0"), [DuplicateCause::Unexplained]);
    }

    #[test]
    fn kill_causes_a_duplicate() {
        let history = Story::of_four_events().with_receipt(KILL - 9_000, 1, 1).history();
        let counts = by_cause(&Facts::of(&history));
        assert_eq!(counts, BTreeMap::from([(DuplicateCause::WorkerKilled, 1)]));
        assert_eq!(
            verdict_line(&CHECKER, &history),
            "valid: 5 examined, 1 worker killed in flight"
        );
    }

    /// The cause of a second 2xx of event 1 with this duration, beside a fault or none.
    fn cause_of(f: Option<Kind>, lasted_us: u64) -> DuplicateCause {
        let begin = KILL - 9_000;
        let story = Story::of_four_events().without_faults();
        let story = story.with_receipt(begin, 1, 1).edit(move |t, op| {
            if matches!(op, Op::RecvEnd(end) if end.req.starts_with("r1-1-")) {
                *t = begin + lasted_us;
            }
        });
        let history = match f {
            Some(f) => story.with_fault(f, w0(), begin..begin + SECOND),
            None => story,
        };
        let history = history.history();
        let causes = by_cause(&Facts::of(&history));
        let [cause] = causes.keys().copied().collect::<Vec<_>>()[..] else {
            panic!("{causes:?}");
        };
        cause
    }

    #[test]
    fn each_fault_has_its_cause() {
        for (f, cause) in [
            (CrashLoop::KIND, DuplicateCause::WorkerKilled),
            (StopPostgres::KIND, DuplicateCause::SettleUnknown),
            (PauseWorker::KIND, DuplicateCause::LeaseExpired),
            (CLOCK_STEP, DuplicateCause::LeaseExpired),
            (PRESENCE_CUT, DuplicateCause::HolderPresumedGone),
            (HangReceiver::KIND, DuplicateCause::Unexplained),
        ] {
            assert_eq!(cause_of(Some(f), 1_000), cause, "{}", f.name);
        }
    }

    #[test]
    fn response_after_nine_tenths_of_the_deadline_is_late() {
        assert_eq!(cause_of(None, 1_349_999), DuplicateCause::Unexplained);
        assert_eq!(cause_of(None, 1_350_000), DuplicateCause::DispatcherTimeout);
    }

    #[test]
    fn deliveries_and_unexplained_duplicates_are_counted() {
        let judged = |story: Story| verdict_line(&CHECKER, &story.history());
        assert_eq!(judged(Story::of_four_events()), "valid: 4 examined, none");
        let line = judged(Story::of_four_events().with_receipt(9 * SECOND, 2, 3));
        let what = "event 2 was delivered more than once and no fault explains it";
        assert!(line.starts_with(&format!("INVALID: 1 of 5 broken; {what}")), "{line}");
    }

    // Attempt 1 of event 1 is open at the kill, and attempt 3 is not settled.
    #[test]
    fn kills_cause_at_most_one_duplicate_per_open_request() {
        let received_again = |attempts: &[u32]| {
            let again = |story: Story, (n, attempt): (u64, &u32)| {
                story.with_receipt(KILL - 9_000 + n, 1, *attempt)
            };
            let story = (0..).zip(attempts).fold(Story::of_four_events(), again);
            verdict_line(&CHECKER, &story.history())
        };
        assert_eq!(received_again(&[1]), "valid: 5 examined, 1 worker killed in flight");
        assert_eq!(received_again(&[1, 3]), "valid: 6 examined, 2 worker killed in flight");
        let too_many = "duplicates are attributed to kills";
        assert_eq!(
            received_again(&[1, 1]),
            format!(
                "INVALID: 1 of 6 broken; 2 {too_many}, and 1 requests were open or unsettled at them \
                 (lines [30])"
            )
        );
        let further = received_again(&[1, 3, 3]);
        assert!(further.contains(&format!("3 {too_many}, and 2 ")), "{further}");
    }

    #[test]
    fn kill_explains_no_duplicate_of_a_settled_attempt() {
        let settled = |outcome: &'static str| {
            let story = Story::of_four_events().with_receipt(KILL - 9_000, 1, 1);
            let story = story.edit(move |_, op| match op {
                Op::State(state) if state.ordinal == 1 => {
                    state.attempts[0].outcome = outcome.into();
                }
                _ => {}
            });
            check(&Facts::of(&story.history()))
        };
        assert!(settled("abandoned").is_valid());
        assert!(settled("rejected").is_invalid());
    }
}
