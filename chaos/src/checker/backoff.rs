//! The gap between two requests of an event is within the bounds of the retry rule.
//!
//! The lower bound does not apply if a fault may have prevented the settle of the failure and the
//! final read does not list it as settled, because the next attempt is then due immediately. It
//! does not apply either if a fault moves the database clock or may delay the request. The upper
//! bound applies only outside of faults and if the event was not released because of its host.
//!
//! A request that comes after one of a later attempt ends no gap, because `attempts` judges it. A
//! gap is measured from begin to begin, because a receiver may record an end late.

use super::declaration::{Checker, Need, Property, When};
use super::verdict::{Examination, Verdict};
use crate::history::facts::{EventFacts, Facts, FaultFacts, ReceiptFacts};
use crate::history::op::ANSWERED;
use crate::history::transition::Step;
use crate::profile::Settings;

/// The declaration of this checker.
pub const CHECKER: Checker = Checker {
    name: "backoff",
    invariant: "the gap after the n-th failure is at least d(n) and, outside of faults, not much more",
    property: Property::Safety,
    when: When::ALWAYS,
    needs: &[Need::RetryRule],
    check,
};

/// Difference of clocks over one gap, in microseconds.
pub const CLOCK_SLACK_US: u64 = 5_000;
/// Time that a due event may wait in the queue on a loaded machine, in microseconds.
pub const QUEUE_SLACK_US: u64 = 5_000_000;
/// Time after a response in which a kill may lose its settle, in microseconds.
pub const SETTLE_SLACK_US: u64 = 2_000_000;
/// Time within which the last requests of a killed worker arrive, in microseconds. A receiver on a
/// loaded machine may record them late.
pub const WIRE_SLACK_US: u64 = 500_000;
/// Time after a heal in which the dispatcher may still work off its backlog, in microseconds.
pub const RECOVERY_SLACK_US: u64 = 5_000_000;

fn check(facts: &Facts<'_>) -> Verdict {
    let mut examination = Examination::default();
    let mut excused = 0_u64;
    for (ordinal, event) in &facts.events {
        let Some(settings) = facts.settings(event) else {
            continue;
        };
        for mut gap in gaps(event, settings, facts.faults_of(event)) {
            excused += u64::from(gap.lower_us.is_none());
            if was_released(facts, event, &gap) {
                gap.upper_us = None;
            }
            examination.saw_one();
            if let Some(bound) = gap.broken() {
                let what = format!(
                    "event {ordinal}: the attempt after attempt {} came after {} ms, and {bound}",
                    gap.after,
                    gap.gap_us / 1_000
                );
                examination.broken(what, gap.seqs);
            }
        }
    }
    let note = format!("{excused} gaps excused by a fault that may have prevented a settle");
    examination.verdict("no event was attempted twice", note)
}

/// Returns true if the event was released between the two attempts, because its host was at its
/// limit.
fn was_released(facts: &Facts<'_>, event: &EventFacts<'_>, gap: &Gap) -> bool {
    let row = event.id().and_then(|id| facts.rows.get(id));
    // Compared by attempt numbers, because a line of the audit may be late.
    row.is_some_and(|row| {
        let mut steps = row.steps.iter();
        let between = gap.after + 1..=gap.next;
        steps.any(|(step, at)| *step == Step::Release && between.contains(&at.op.attempt))
    })
}

/// The time between two requests of one event, and its bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The number of the attempt before the gap.
    pub after: u32,
    /// The number of the attempt that ends it.
    pub next: u32,
    /// From begin to begin, in microseconds.
    pub gap_us: u64,
    /// From the end of one to the begin of the next, in microseconds.
    pub rest_us: u64,
    /// The shortest gap in microseconds, or `None` if a fault excuses it.
    pub lower_us: Option<u64>,
    /// The longest gap in microseconds, or `None` during a fault.
    pub upper_us: Option<u64>,
    /// The lines of both begins.
    pub seqs: [u64; 2],
}

impl Gap {
    fn broken(&self) -> Option<String> {
        if self.lower_us.is_some_and(|lower| self.gap_us + CLOCK_SLACK_US < lower) {
            return self.lower_us.map(|lower| format!("the shortest gap is {} ms", lower / 1_000));
        }
        let upper = self.upper_us.filter(|upper| self.gap_us > *upper);
        upper.map(|upper| format!("the longest gap is {} ms", upper / 1_000))
    }
}

/// Returns every gap of one event with its bounds.
pub fn gaps(event: &EventFacts<'_>, settings: &Settings, faults: &[FaultFacts<'_>]) -> Vec<Gap> {
    // Attempts without a request may have failed too.
    let failed_at_most = |before: &ReceiptFacts<'_>, received: u32| {
        before.begin.op.attempt.unwrap_or(0).max(received)
    };
    let mut settled_surely = 0;
    let mut newest = None;
    let in_order = |receipt: &&ReceiptFacts<'_>| {
        let late = newest.is_some_and(|newest| receipt.begin.op.attempt < newest);
        newest = newest.max(Some(receipt.begin.op.attempt));
        !late
    };
    let receipts: Vec<_> = event.receipts.iter().filter(in_order).collect();
    let pairs = receipts.windows(2).zip(1_u32..);
    pairs
        .map(|(pair, received)| {
            let [before, next] = [pair[0], pair[1]];
            let failed_at_most = failed_at_most(before, received);
            let unsettled = !event.is_called_settled(before)
                && faults.iter().any(|fault| may_have_kept_unsettled(fault, before));
            if !unsettled {
                settled_surely += 1;
            }
            let gap_us = next.begin.t.saturating_sub(before.begin.t);
            let overlapping = || {
                let (from, to) = (before.begin.t, next.begin.t);
                faults.iter().filter(move |fault| fault.overlaps(from, to, RECOVERY_SLACK_US))
            };
            let calm = overlapping().next().is_none();
            let kept = || faults.iter().any(|fault| may_have_delayed(fault, before));
            let excused = unsettled || overlapping().any(FaultFacts::moves_a_clock) || kept();
            Gap {
                after: before.begin.op.attempt.unwrap_or(received),
                next: next.begin.op.attempt.unwrap_or(received + 1),
                gap_us,
                rest_us: next.begin.t.saturating_sub(before.end_us()),
                lower_us: (!excused).then(|| lower_us(before, settings, settled_surely)),
                upper_us: calm.then(|| upper_us(before, settings, failed_at_most)),
                seqs: [before.begin.seq, next.begin.seq],
            }
        })
        .collect()
}

fn lower_us(before: &ReceiptFacts<'_>, settings: &Settings, failures: u32) -> u64 {
    let after_ms = before.begin.op.scripted.as_ref().map_or(0, |scripted| scripted.after_ms);
    let after_ms = after_ms.min(settings.http_timeout_ms);
    (after_ms + settings.delay_ms(failures).max(retry_after_ms(before))) * 1_000
}

fn upper_us(before: &ReceiptFacts<'_>, settings: &Settings, failures: u32) -> u64 {
    let wait_ms = settings.delay_ms_max(failures).max(retry_after_ms(before));
    let ended_us =
        before.end.map_or(settings.http_timeout_ms * 1_000, |end| end.t - before.begin.t);
    ended_us + (wait_ms + settings.poll_ms) * 1_000 + QUEUE_SLACK_US
}

fn retry_after_ms(before: &ReceiptFacts<'_>) -> u64 {
    // The worker reads Retry-After only from a complete response.
    let answered = before.end.is_some_and(|end| end.op.how == ANSWERED);
    let scripted = before.begin.op.scripted.as_ref().filter(|_| answered);
    scripted.and_then(|scripted| scripted.retry_after_s).map_or(0, |seconds| seconds * 1_000)
}

/// Returns true if the link may have delayed an attempt, or its response with the Retry-After. A
/// delay of the next attempt makes the gap longer and excuses nothing.
fn may_have_delayed(fault: &FaultFacts<'_>, attempt: &ReceiptFacts<'_>) -> bool {
    let until_us = attempt.end_us().saturating_add(SETTLE_SLACK_US);
    fault.may_lose_or_delay(attempt) && fault.overlaps(attempt.begin.t, until_us, WIRE_SLACK_US)
}

/// Returns true if a kill came while an attempt was open or before its settle, or if another fault
/// that may end leases was active then.
pub fn may_have_kept_unsettled(fault: &FaultFacts<'_>, attempt: &ReceiptFacts<'_>) -> bool {
    let until_us = attempt.end_us().saturating_add(SETTLE_SLACK_US);
    if fault.is_kill() {
        return fault.effective_us() + WIRE_SLACK_US >= attempt.begin.t
            && fault.start.t <= until_us;
    }
    let after_us = if fault.may_lose_settles() { RECOVERY_SLACK_US } else { SETTLE_SLACK_US };
    fault.may_abandon() && fault.overlaps(attempt.begin.t, until_us, after_us)
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;
    use crate::checker::story::ops::{links, w0};
    use crate::checker::story::{KILL, SECOND, Story};
    use crate::checker::verdict_line;
    use crate::fault::{Kind, Target};
    use crate::history::op::{FaultStart, Op};
    use crate::history::transition::Transition;
    use crate::nemesis::{HangReceiver, KillWorker, Latency, PauseWorker, StopPostgres};
    use crate::sim::kinds::CLOCK_STEP;

    /// Begin and end of attempt 3 of event 3, which has default settings and no fault.
    const THIRD: u64 = 6_501_000;
    const THIRD_END: u64 = THIRD + 1_000;

    fn judged(story: Story) -> String {
        verdict_line(&CHECKER, &story.history())
    }

    /// Attempt 4 of event 3 comes this time after attempt 3.
    fn fourth_after(us: u64) -> Story {
        Story::of_four_events().with_request_at(3, 4, THIRD + us)
    }

    fn is_valid(story: Story) -> bool {
        check(&Facts::of(&story.history())).is_valid()
    }

    /// Returns true if these are the exact bounds of the gap after attempt 3 of event 3.
    fn is_bound(edit: impl Fn(&mut u64, &mut Op) + Copy, lower_us: u64, upper_us: u64) -> bool {
        let lower_us = lower_us - CLOCK_SLACK_US;
        let valid = |us| is_valid(fourth_after(us).edit(edit));
        [valid(lower_us - 1), valid(lower_us)] == [false, true]
            && [valid(upper_us), valid(upper_us + 1)] == [true, false]
    }

    #[test]
    fn gap_has_the_bounds_of_the_rule_to_the_microsecond() {
        // The delay of the third failure is 8 to 10 s, it lasted 1 ms, and the poll is 1.5 s.
        assert!(is_bound(|_, _| {}, 8_000_000, 1_000 + 11_500_000 + QUEUE_SLACK_US));
    }

    #[test]
    fn violation_states_milliseconds_and_both_lines() {
        assert_eq!(
            judged(fourth_after(7_000_000)),
            "INVALID: 1 of 6 broken; event 3: the attempt after attempt 3 came after 7000 ms, and \
             the shortest gap is 8000 ms (lines [30, 34])"
        );
        assert_eq!(
            judged(fourth_after(17_000_000)),
            "INVALID: 1 of 6 broken; event 3: the attempt after attempt 3 came after 17000 ms, and \
             the longest gap is 16501 ms (lines [30, 41])"
        );
        assert_eq!(
            judged(Story::of_four_events()),
            "valid: 6 examined, 1 gaps excused by a fault that may have prevented a settle"
        );
    }

    #[test]
    fn response_delay_and_retry_after_move_the_bounds() {
        let waits = |_: &mut u64, op: &mut Op| {
            if let Op::RecvBegin(begin) = op
                && (begin.ordinal, begin.attempt) == (Some(3), Some(3))
                && let Some(scripted) = &mut begin.scripted
            {
                (scripted.after_ms, scripted.retry_after_s) = (2_000, Some(20));
            }
        };
        let upper_us = 1_000 + 21_500_000 + QUEUE_SLACK_US;
        assert!(is_bound(waits, 22_000_000, upper_us));
        // An incomplete response requests no delay.
        let broken_off = |t: &mut u64, op: &mut Op| {
            waits(t, op);
            if let Op::RecvEnd(end) = op {
                end.how = "reset".into();
            }
        };
        let upper_us = 1_000 + 11_500_000 + QUEUE_SLACK_US;
        assert!(is_bound(broken_off, 10_000_000, upper_us));
    }

    #[test]
    fn request_without_an_end_lasted_at_most_until_the_deadline() {
        let unseen = |_: &mut u64, op: &mut Op| {
            if let Op::RecvEnd(end) = op
                && end.req.starts_with("r3-3-")
            {
                end.req = "another".into();
            }
        };
        let upper_us = 15_000_000 + 11_500_000 + QUEUE_SLACK_US;
        assert!(is_bound(unseen, 8_000_000, upper_us));
    }

    #[test]
    fn only_a_release_excuses_a_long_gap() {
        let late = || fourth_after(30 * SECOND);
        let recorded = |step: Step, attempt| {
            let id = "e3".into();
            let back = Transition { id, attempt, ..Transition::default() };
            late().with(THIRD + SECOND, Op::of_transition(step, back))
        };
        assert!(!is_valid(late()));
        assert!(is_valid(recorded(Step::Release, 4)));
        assert!(!is_valid(recorded(Step::Release, 3)));
        assert!(!is_valid(recorded(Step::Release, 5)));
        assert!(!is_valid(recorded(Step::Claim, 4)));
        // Requests without a number count in their order.
        let unnumbered = |_: &mut u64, op: &mut Op| {
            if let Op::RecvBegin(begin) = op {
                begin.attempt = None;
            }
        };
        assert!(is_valid(recorded(Step::Release, 4).edit(unnumbered)));
        assert!(!is_valid(recorded(Step::Release, 3).edit(unnumbered)));
    }

    #[test]
    fn late_request_ends_no_gap_and_repeated_number_does() {
        let at_once = |attempt| Story::of_four_events().with_receipt(201_001, 0, attempt);
        assert!(is_valid(at_once(1)));
        assert!(!is_valid(at_once(2)));
    }

    #[test]
    fn unsettled_attempt_is_no_failure_and_settled_one_is() {
        let third = |outcome: &'static str| {
            let story = Story::of_four_events().with_receipt(KILL + 2 * SECOND + 100_000, 1, 3);
            story.edit(move |_, op| match op {
                Op::State(state) if state.ordinal == 1 => {
                    state.attempts[0].outcome = outcome.into();
                }
                _ => {}
            })
        };
        assert!(is_valid(third("abandoned")));
        assert!(!is_valid(third("reset")));
        // The gap after a settled attempt is not excused either.
        let at_once = |story: Story| {
            story.with_request_at(1, 2, KILL + 40).with_request_at(1, 3, KILL + SECOND)
        };
        assert!(is_valid(at_once(third("abandoned"))));
        assert!(!is_valid(at_once(third("reset"))));
    }

    #[test]
    fn clock_fault_excuses_a_short_gap() {
        let early = |f| {
            let story = Story::of_four_events().with_request_at(0, 2, 50_000);
            is_valid(story.with_fault(f, Target::Postgres, 20_000..30_000))
        };
        assert!(early(CLOCK_STEP));
        assert!(!early(PauseWorker::KIND));
    }

    #[test]
    fn fault_and_its_aftermath_excuse_a_long_gap() {
        let late = |heal| {
            let kill = |op: &Op| op.source() == "fault";
            let story = Story::of_four_events()
                .without(kill)
                .with_request_at(0, 1, 10 * SECOND)
                .with_request_at(0, 2, 19 * SECOND);
            is_valid(story.with_fault(PauseWorker::KIND, w0(), SECOND..heal))
        };
        assert!(late(10 * SECOND - RECOVERY_SLACK_US));
        assert!(!late(10 * SECOND - RECOVERY_SLACK_US - 1));
    }

    /// Returns true if a fault in this interval may concern attempt 3 of event 3.
    fn concerns(
        may: fn(&FaultFacts<'_>, &ReceiptFacts<'_>) -> bool,
        kind: Kind,
        target: Target,
        under_way: Range<u64>,
    ) -> bool {
        let story = Story::of_four_events().without_faults();
        let history = story.with_fault(kind, target, under_way).history();
        let facts = Facts::of(&history);
        may(&facts.faults[0], &facts.events[&3].receipts[2])
    }

    #[test]
    fn kill_may_lose_a_settle_within_its_slack() {
        let kill = |from| concerns(may_have_kept_unsettled, KillWorker::KIND, w0(), from..from);
        assert_eq!([THIRD - WIRE_SLACK_US - 1, THIRD - WIRE_SLACK_US].map(kill), [false, true]);
        let last = THIRD_END + SETTLE_SLACK_US;
        assert_eq!([last, last + 1].map(kill), [true, false]);
    }

    #[test]
    fn other_fault_may_lose_a_settle_within_its_aftermath() {
        let costs = |f| move |under_way| concerns(may_have_kept_unsettled, f, w0(), under_way);
        let last = THIRD_END + SETTLE_SLACK_US;
        for (f, after_us) in
            [(PauseWorker::KIND, SETTLE_SLACK_US), (StopPostgres::KIND, RECOVERY_SLACK_US)]
        {
            let healed = THIRD - after_us;
            assert_eq!([0..healed - 1, 0..healed].map(costs(f)), [false, true], "{}", f.name);
            assert_eq!([last..last, last + 1..last + 1].map(costs(f)), [true, false], "{}", f.name);
        }
        assert!(!costs(HangReceiver::KIND)(THIRD..THIRD_END));
    }

    #[test]
    fn link_may_delay_an_attempt_within_its_slack() {
        let keeps =
            |f| move |under_way| concerns(may_have_delayed, f, links("workers->r3"), under_way);
        let (healed, last) = (THIRD - WIRE_SLACK_US, THIRD_END + SETTLE_SLACK_US);
        let late = keeps(Latency::KIND);
        assert_eq!([0..healed - 1, 0..healed].map(late), [false, true]);
        assert_eq!([last..last, last + 1..last + 1].map(late), [true, false]);
        assert!(!keeps(PauseWorker::KIND)(THIRD..THIRD_END));
    }

    #[test]
    fn immediate_attempt_is_excused_only_by_a_kill() {
        let early = |killed: bool| {
            let story = Story::of_four_events().edit(|t, op| match op {
                Op::RecvBegin(begin) if begin.ordinal == Some(1) && begin.attempt == Some(2) => {
                    *t = KILL + 40;
                }
                _ => {}
            });
            let story = if killed { story } else { story.without_faults() };
            check(&Facts::of(&story.history()))
        };
        assert!(early(true).is_valid());
        assert!(early(false).is_invalid());
    }

    #[test]
    fn link_excuses_only_the_gap_after_its_attempt() {
        // Event 0 gets its response immediately, and its next attempt is due after 100 ms.
        let early = |link: &'static str, healed: u64| {
            let story = Story::of_four_events().edit(move |t, op| match op {
                Op::RecvBegin(begin) if begin.ordinal == Some(0) && begin.attempt == Some(2) => {
                    *t = 50_000;
                }
                Op::FaultStart(start) => {
                    *t = 50;
                    *start = FaultStart::new(1, &Latency::KIND, links(link));
                }
                Op::FaultEnd(_) => *t = healed,
                _ => {}
            });
            check(&Facts::of(&story.history()))
        };
        assert!(early("workers->r0", 90).is_valid());
        assert!(early("workers->r2", 90).is_invalid());
        let before = Story::of_four_events().edit(|t, op| match op {
            Op::RecvBegin(begin) if begin.ordinal == Some(0) => {
                *t += if begin.attempt == Some(1) { SECOND } else { 850_000 };
            }
            Op::RecvEnd(end) if end.ordinal == Some(0) => *t += SECOND,
            Op::FaultStart(start) => {
                *t = 50;
                *start = FaultStart::new(1, &Latency::KIND, links("workers->r0"));
            }
            Op::FaultEnd(_) => *t = 90,
            _ => {}
        });
        let long_over = before.history();
        assert!(check(&Facts::of(&long_over)).is_invalid());
    }

    #[test]
    fn attempt_before_its_retry_after_is_a_violation() {
        let history = Story::of_four_events().edit(|_, op| {
            if let Op::RecvBegin(begin) = op
                && begin.ordinal == Some(0)
                && let Some(scripted) = &mut begin.scripted
            {
                scripted.retry_after_s = Some(1);
            }
        });
        assert!(check(&Facts::of(&history.history())).is_invalid());
    }

    #[test]
    fn run_without_second_attempts_is_unknown() {
        let history = Story::of_four_events().without(|op| op.source() == "recv");
        assert_eq!(check(&Facts::of(&history.history())).word(), "unknown");
    }
}
