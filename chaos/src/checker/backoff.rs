//! The gap before each attempt, as seen from the receivers, lies within the bounds of the retry rule.
//!
//! Lower bound: always, except where a fault may have kept the failure from being settled and the view
//! does not list it as settled; then the next attempt is due at once. A clock that a fault moves excuses
//! it, too, since the gap is one of the database's clock, and so does one that may keep a request on its way. Upper bound: only outside fault windows and where
//! the event was not handed back because of its host, with a slack for the queue. A request that comes after one of a later attempt is a paused worker's; it ends
//! no gap (`attempts` judges it).
//! A gap is measured from begin to begin, because the receiver's stamp of an end may be late.

use super::{Checker, Examination, Kind, Verdict};
use crate::history::facts::{EventFacts, Facts, FaultFacts, ReceiptFacts};
use crate::history::op::ANSWERED;
use crate::history::transition::Step;
use crate::profile::Settings;

/// The register's entry.
pub const CHECKER: Checker = Checker {
    name: "backoff",
    invariant: "the gap after the n-th failure is at least d(n) and, outside faults, not much more",
    kind: Kind::Safety,
    check,
};

/// What clocks may differ by over one gap, in microseconds.
pub const CLOCK_SLACK_US: u64 = 5_000;
/// What a due event may wait for its turn on a loaded machine, in microseconds.
pub const QUEUE_SLACK_US: u64 = 5_000_000;
/// How long after an answer its settle may still be lost by a kill, in microseconds.
pub const SETTLE_SLACK_US: u64 = 2_000_000;
/// What a killed worker had sent arrives within this, in microseconds: a receiver on a loaded machine may
/// be late to see what is there.
pub const WIRE_SLACK_US: u64 = 500_000;
/// How long after a heal the system may still be catching up, in microseconds.
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
                    "event {ordinal}: {} ms after attempt {} comes the next; {bound}",
                    gap.gap_us / 1_000,
                    gap.after
                );
                examination.broken(what, gap.seqs);
            }
        }
    }
    let note = format!("{excused} gaps excused by a fault that may have kept a failure unsettled");
    examination.verdict("no event was attempted twice", note)
}

/// True when the store tells that the event went back unsent in between: its host was at its cap, and
/// it was kept away from it on purpose.
fn was_released(facts: &Facts<'_>, event: &EventFacts<'_>, gap: &Gap) -> bool {
    let row = event.id().and_then(|id| facts.rows.get(id));
    // By the attempts' numbers: a line of the store's may be late.
    row.is_some_and(|row| {
        let mut steps = row.steps.iter();
        let between = gap.after + 1..=gap.next;
        steps.any(|(step, at)| *step == Step::Release && between.contains(&at.op.attempt))
    })
}

/// The time between two requests of one event, and what bounds it.
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
    /// The least gap, in microseconds; none where a kill excuses it.
    pub lower_us: Option<u64>,
    /// The greatest gap, in microseconds; none inside a fault window.
    pub upper_us: Option<u64>,
    /// The lines of both begins.
    pub seqs: [u64; 2],
}

impl Gap {
    fn broken(&self) -> Option<String> {
        if self
            .lower_us
            .is_some_and(|lower| self.gap_us + CLOCK_SLACK_US < lower)
        {
            return self
                .lower_us
                .map(|lower| format!("the least gap is {} ms", lower / 1_000));
        }
        let upper = self.upper_us.filter(|upper| self.gap_us > *upper);
        upper.map(|upper| format!("the greatest gap is {} ms", upper / 1_000))
    }
}

/// Every gap of one event with its bounds.
#[must_use]
pub fn gaps(event: &EventFacts<'_>, settings: &Settings, faults: &[FaultFacts<'_>]) -> Vec<Gap> {
    // Attempts that never arrived may have failed, too.
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
                && faults
                    .iter()
                    .any(|fault| may_have_kept_unsettled(fault, before));
            if !unsettled {
                settled_surely += 1;
            }
            let gap_us = next.begin.t.saturating_sub(before.begin.t);
            let overlapping = || {
                let (from, to) = (before.begin.t, next.begin.t);
                faults
                    .iter()
                    .filter(move |fault| fault.overlaps(from, to, RECOVERY_SLACK_US))
            };
            let calm = overlapping().next().is_none();
            let kept = || faults.iter().any(|fault| may_have_kept(fault, before));
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
    let after_ms = before
        .begin
        .op
        .scripted
        .as_ref()
        .map_or(0, |scripted| scripted.after_ms);
    let after_ms = after_ms.min(settings.http_timeout_ms);
    (after_ms + settings.delay_ms(failures).max(retry_after_ms(before))) * 1_000
}

fn upper_us(before: &ReceiptFacts<'_>, settings: &Settings, failures: u32) -> u64 {
    let wait_ms = settings.delay_ms_max(failures).max(retry_after_ms(before));
    let ended_us = before.end.map_or(settings.http_timeout_ms * 1_000, |end| {
        end.t - before.begin.t
    });
    ended_us + (wait_ms + settings.poll_ms) * 1_000 + QUEUE_SLACK_US
}

fn retry_after_ms(before: &ReceiptFacts<'_>) -> u64 {
    // Only an answer that came through whole tells its Retry-After.
    let answered = before.end.is_some_and(|end| end.op.how == ANSWERED);
    let scripted = before.begin.op.scripted.as_ref().filter(|_| answered);
    scripted
        .and_then(|scripted| scripted.retry_after_s)
        .map_or(0, |seconds| seconds * 1_000)
}

/// True when a link may have kept an attempt, or its answer with the Retry-After in it, on its way. What
/// keeps the next attempt makes the gap longer, and excuses nothing.
fn may_have_kept(fault: &FaultFacts<'_>, attempt: &ReceiptFacts<'_>) -> bool {
    let until_us = attempt.end_us().saturating_add(SETTLE_SLACK_US);
    fault.may_keep(attempt) && fault.overlaps(attempt.begin.t, until_us, WIRE_SLACK_US)
}

/// True when a kill came while an attempt was open, or so soon after it that its settle may be lost; or
/// when another fault that may cost a lease lasted then.
#[must_use]
pub fn may_have_kept_unsettled(fault: &FaultFacts<'_>, attempt: &ReceiptFacts<'_>) -> bool {
    let until_us = attempt.end_us().saturating_add(SETTLE_SLACK_US);
    if fault.is_kill() {
        return fault.effective_us() + WIRE_SLACK_US >= attempt.begin.t
            && fault.start.t <= until_us;
    }
    let after_us = if fault.may_lose_settles() {
        RECOVERY_SLACK_US
    } else {
        SETTLE_SLACK_US
    };
    fault.may_abandon() && fault.overlaps(attempt.begin.t, until_us, after_us)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::sample::{KILL, SECOND, Sample};
    use crate::history::op::{Op, RecvBegin, RecvEnd};

    /// Moves the request of `attempt` of event 3 (default settings) to another time.
    fn moved(attempt: u32, to: u64) -> Verdict {
        let req = |req: &str| req.starts_with(&format!("r3-{attempt}-"));
        let history = Sample::default().edit(|t, op| match op {
            Op::RecvBegin(RecvBegin { req: name, .. }) if req(name) => *t = to,
            Op::RecvEnd(RecvEnd { req: name, .. }) if req(name) => *t = to + 1,
            _ => {}
        });
        check(&Facts::of(&history.history()))
    }

    #[test]
    fn an_attempt_before_its_delay_has_passed_is_a_violation() {
        // The third failure waits 8 s, from 6.5 s on.
        assert!(moved(4, 14 * SECOND).is_invalid());
        assert!(moved(4, 15 * SECOND).is_valid());
    }

    #[test]
    fn an_attempt_long_after_its_delay_is_a_violation() {
        assert!(moved(4, 14 * SECOND + 10 * SECOND).is_invalid());
    }

    #[test]
    fn an_attempt_at_once_is_excused_only_by_a_kill() {
        let early = |killed: bool| {
            let sample = Sample::default().edit(|t, op| match op {
                Op::RecvBegin(begin) if begin.ordinal == Some(1) && begin.attempt == Some(2) => {
                    *t = KILL + 40;
                }
                _ => {}
            });
            let sample = if killed {
                sample
            } else {
                sample.without(|op| op.source() == "fault")
            };
            check(&Facts::of(&sample.history()))
        };
        assert!(early(true).is_valid());
        assert!(early(false).is_invalid());
    }

    #[test]
    fn an_attempt_that_its_link_may_have_kept_excuses_the_gap_after_it_and_no_other() {
        // Event 0 is answered at once and comes again after 100 ms at the earliest.
        let early = |link: &'static str, healed: u64| {
            let sample = Sample::default().edit(move |t, op| match op {
                Op::RecvBegin(begin) if begin.ordinal == Some(0) && begin.attempt == Some(2) => {
                    *t = 50_000;
                }
                Op::FaultStart(start) => {
                    (*t, start.f, start.target) = (50, "net.latency".into(), link.into());
                }
                Op::FaultEnd(_) => *t = healed,
                _ => {}
            });
            check(&Facts::of(&sample.history()))
        };
        assert!(early("workers->r0", 90).is_valid());
        assert!(early("workers->r2", 90).is_invalid());
        let before = Sample::default().edit(|t, op| match op {
            Op::RecvBegin(begin) if begin.ordinal == Some(0) => {
                *t += if begin.attempt == Some(1) {
                    SECOND
                } else {
                    850_000
                };
            }
            Op::RecvEnd(end) if end.ordinal == Some(0) => *t += SECOND,
            Op::FaultStart(start) => {
                (*t, start.f, start.target) = (50, "net.latency".into(), "workers->r0".into());
            }
            Op::FaultEnd(_) => *t = 90,
            _ => {}
        });
        let long_over = before.history();
        assert!(check(&Facts::of(&long_over)).is_invalid());
    }

    #[test]
    fn a_retry_after_that_is_not_waited_for_is_a_violation() {
        let history = Sample::default().edit(|_, op| {
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
    fn a_run_without_second_attempts_is_unknown() {
        let history = Sample::default().without(|op| op.source() == "recv");
        assert_eq!(check(&Facts::of(&history.history())).word(), "unknown");
    }
}
