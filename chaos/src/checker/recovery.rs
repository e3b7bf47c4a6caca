//! After each fault, deliveries continue, and soon at the rate of the baseline.
//!
//! Two times are measured from the end of a fault: to the next complete 2xx of an acknowledged
//! event, and to the begin of deliveries at nine tenths of the baseline rate. If no event was left,
//! the first time begins with the next accept. The rate is measured only until the last post or the
//! next fault, and only if the baseline had enough deliveries. Both times have one bound: lease,
//! sweep, deadline and longest backoff.

use std::collections::BTreeMap;

use super::backoff::{QUEUE_SLACK_US, RECOVERY_SLACK_US};
use super::declaration::{Checker, Property, When};
use super::verdict::{Examination, Verdict};
use crate::history::facts::{Facts, FaultFacts};
use crate::history::op::{Phase, Section};
use crate::profile::Settings;

/// The declaration of this checker.
pub const CHECKER: Checker = Checker {
    name: "recovery",
    invariant: "after each fault, deliveries continue within a bound, and at nine tenths of the baseline rate",
    property: Property::Liveness,
    when: When::real_if("events were due after a fault", is_exercised),
    needs: &[],
    check,
};

/// Minimum number of deliveries in a baseline for a rate.
const BASELINE_DELIVERIES_MIN: usize = 10;
/// Interval in which the rate is measured, in microseconds.
const RATE_WINDOW_US: u64 = 1_000_000;
/// Share of the baseline rate that counts as recovered, in percent.
const RECOVERED_PERCENT: u64 = 90;

/// The recovery after one fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovery<'f> {
    /// Name of the fault's kind.
    pub kind: &'f str,
    /// Line of `fault.start`.
    pub seq: u64,
    /// Time to the next delivery in microseconds, from the end of the fault or, if no event was
    /// left, from the next accept. `None` if there was no delivery.
    pub next_us: Option<u64>,
    /// The rate of deliveries afterwards, or `None` without a baseline.
    pub rate: Option<Rate>,
}

/// The rate of deliveries after a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rate {
    /// It reached the baseline rate after this time, in microseconds.
    Back(u64),
    /// It stayed below the baseline rate for this time, in microseconds, until the last post or the
    /// next fault.
    Away(u64),
}

/// Returns the recovery from each healed fault, by kind.
pub fn recoveries<'f>(facts: &'f Facts<'_>) -> BTreeMap<&'f str, Vec<Recovery<'f>>> {
    let delivered = deliveries(facts);
    let wanted = wanted(facts, &delivered);
    let owed = owed(facts);
    let mut found: BTreeMap<&str, Vec<Recovery<'_>>> = BTreeMap::new();
    for fault in &facts.faults {
        if let Some(end_us) = fault.end_us {
            let after = &delivered[delivered.partition_point(|t| *t < end_us)..];
            let until_us = watched_until(facts, fault, end_us);
            found.entry(fault.name()).or_default().push(Recovery {
                kind: fault.name(),
                seq: fault.start.seq,
                next_us: next_us(after, &owed, end_us),
                rate: wanted.map(|wanted| rate(after, wanted, end_us, until_us)),
            });
        }
    }
    found
}

/// Returns true if an event was left to deliver after a fault. On a slow machine, a fault may
/// outlast all events.
fn is_exercised(facts: &Facts<'_>) -> bool {
    let healed = facts.faults.iter().filter_map(|fault| fault.end_us).min();
    healed.is_some_and(|end_us| owed_from(&owed(facts), end_us).is_some())
}

/// Returns the times of accept and delivery of each event of the main section that is not dead. A
/// large event may be delayed for a minute, if its payload came too late for its lease.
fn owed(facts: &Facts<'_>) -> Vec<(u64, u64)> {
    let of_main = facts.accepted().filter(|(_, event)| event.section() == Section::Main);
    let of_main = of_main.filter(|(_, event)| !event.is_large());
    let owed = of_main.filter_map(|(_, event)| {
        let delivered_us = event.successes().map(|receipt| receipt.end_us()).min();
        let is_dead = delivered_us.is_none() && event.status() == Some("dead");
        let accepted = event.acknowledged.first()?;
        (!is_dead).then(|| (accepted.t, delivered_us.unwrap_or(u64::MAX)))
    });
    owed.collect()
}

/// Returns the time from which an event was left to deliver after a fault: the end of the fault, or
/// the next accept.
fn owed_from(owed: &[(u64, u64)], end_us: u64) -> Option<u64> {
    let later = owed.iter().filter(|(_, delivered_us)| *delivered_us >= end_us);
    later.map(|(accepted, _)| *accepted.max(&end_us)).min()
}

fn next_us(after: &[u64], owed: &[(u64, u64)], end_us: u64) -> Option<u64> {
    let from_us = owed_from(owed, end_us)?;
    after.first().map(|t| t.saturating_sub(from_us))
}

/// Returns the ends of all complete 2xx of the main section, in order.
fn deliveries(facts: &Facts<'_>) -> Vec<u64> {
    let of_main = facts.accepted().filter(|(_, event)| event.section() == Section::Main);
    let successes = of_main.flat_map(|(_, event)| event.successes());
    let mut delivered: Vec<u64> = successes.map(|receipt| receipt.end_us()).collect();
    delivered.sort_unstable();
    delivered
}

/// Returns the number of deliveries in one window at nine tenths of the baseline rate.
fn wanted(facts: &Facts<'_>, delivered: &[u64]) -> Option<usize> {
    let (begin_us, _) = facts.phases.get(&Phase::Baseline)?;
    let (end_us, _) = facts.phases.get(&Phase::Storm)?;
    let quiet = within(delivered, *begin_us, *end_us);
    let enough = quiet >= BASELINE_DELIVERIES_MIN;
    let share = quiet as u64 * RATE_WINDOW_US * RECOVERED_PERCENT;
    let wanted = share.div_ceil(end_us.saturating_sub(*begin_us).max(1) * 100);
    enough.then(|| usize::try_from(wanted).unwrap_or(usize::MAX))
}

/// Counts the ordered times in `from..to`.
fn within(times: &[u64], from: u64, to: u64) -> usize {
    times.partition_point(|t| *t < to) - times.partition_point(|t| *t < from)
}

/// Returns the time until which the rate is measured: the last post or the next fault.
fn watched_until(facts: &Facts<'_>, fault: &FaultFacts<'_>, end_us: u64) -> u64 {
    let of_main = facts.accepted().filter(|(_, event)| event.section() == Section::Main);
    let posts = of_main.flat_map(|(_, event)| &event.invokes);
    let last_post = posts.map(|at| at.t).max().unwrap_or(0);
    let later = facts.faults.iter().filter(|other| {
        let is_another = other.start.seq != fault.start.seq;
        is_another && other.end_us.is_none_or(|end| end > end_us)
    });
    let next_fault = later.map(|other| other.start.t.max(end_us)).min();
    last_post.min(next_fault.unwrap_or(u64::MAX))
}

/// Finds the first delivery from which one window has the wanted number of deliveries.
fn rate(after: &[u64], wanted: usize, end_us: u64, until_us: u64) -> Rate {
    let watched = after.iter().take_while(|t| **t <= until_us);
    let enough = watched.enumerate().find(|(at, from)| {
        let last = after.get(at + wanted.saturating_sub(1));
        last.is_some_and(|t| t - **from < RATE_WINDOW_US)
    });
    match enough {
        Some((_, from)) => Rate::Back(from - end_us),
        None => Rate::Away(until_us.saturating_sub(end_us)),
    }
}

fn check(facts: &Facts<'_>) -> Verdict {
    let mut examination = Examination::default();
    let settings = facts.start.and_then(|start| start.sections.get(&Section::Main));
    let bound_us = settings.map_or(u64::MAX, bound_us);
    let (mut longest_us, mut rates) = (0, 0);
    for recovery in recoveries(facts).values().flatten() {
        let (kind, seq) = (recovery.kind, recovery.seq);
        // `liveness` judges events that were never delivered.
        let Some(took_us) = recovery.next_us else {
            continue;
        };
        examination.saw_one();
        longest_us = longest_us.max(took_us);
        rates += u64::from(matches!(recovery.rate, Some(Rate::Back(_))));
        if took_us > bound_us {
            let ms = took_us / 1_000;
            let what = format!("{ms} ms passed between a {kind} and the next delivery");
            examination.broken(what, [seq]);
        }
        let (Some(Rate::Back(away_us)) | Some(Rate::Away(away_us))) = recovery.rate else {
            continue;
        };
        if away_us > bound_us {
            let ms = away_us / 1_000;
            let what = format!(
                "{ms} ms after a {kind}, deliveries were still slower than in the baseline"
            );
            examination.broken(what, [seq]);
        }
    }
    let note = format!(
        "at most {} ms to the next delivery, and at the baseline rate after {rates} faults",
        longest_us / 1_000
    );
    examination.verdict("nothing was delivered after a fault", note)
}

fn bound_us(settings: &Settings) -> u64 {
    let waits_ms = settings.lease_ms + settings.http_timeout_ms + settings.backoff_cap_ms;
    waits_ms * 1_000 + RECOVERY_SLACK_US + 2 * QUEUE_SLACK_US
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::story::ops::{phase, w0};
    use crate::checker::story::{KILL, SECOND, Story};
    use crate::checker::verdict_line;
    use crate::history::facts::LARGE_BYTES_MIN;
    use crate::history::op::{FaultEnd, FaultStart, Op};
    use crate::nemesis::{KillWorker, PauseWorker};

    /// End of the kill in the history of four events.
    const HEALED: u64 = KILL + SECOND / 2;
    /// Lease, deadline, longest backoff and slack at the settings of that history.
    const BOUND: u64 = 21_500_000;

    fn only(facts: &Facts<'_>) -> (Option<u64>, Option<Rate>) {
        let recovery = recoveries(facts)[KillWorker::KIND.name][0];
        (recovery.next_us, recovery.rate)
    }

    /// A baseline of two seconds with this many deliveries of event 0, and a last post at this
    /// time.
    fn with_baseline(deliveries: u64, last_post: u64) -> Story {
        let late = |op: &Op| matches!(op, Op::Phase(at) if at.phase == Phase::Storm);
        let story = Story::of_four_events()
            .without(late)
            .with(0, phase(Phase::Baseline))
            .with(2 * SECOND, phase(Phase::Storm))
            .edit(|t, op| match op {
                Op::IngestInvoke(invoke) if invoke.op == 902 => *t = last_post,
                // Only the receipts that a test adds are delivered.
                Op::RecvEnd(end) => end.status = None,
                _ => {}
            });
        let quiet = |story: Story, n| story.with_receipt(1_000 + n * 90_000, 0, 9);
        (0..deliveries).fold(story, quiet)
    }

    /// Adds this many deliveries from this time on, one every 200 ms.
    fn delivered_from(story: Story, t: u64, deliveries: u64) -> Story {
        let one = |story: Story, n| story.with_receipt(t + n * 200_000, 0, 9);
        (0..deliveries).fold(story, one)
    }

    fn rate_of(story: Story) -> Option<Rate> {
        only(&Facts::of(&story.history())).1
    }

    #[test]
    fn delivery_soon_after_a_fault_is_a_recovery() {
        let history = Story::of_four_events().history();
        let facts = Facts::of(&history);
        assert!(check(&facts).is_valid());
        let took = 2 * SECOND + 1_000 - SECOND / 2;
        assert_eq!(only(&facts), (Some(took), None));
    }

    #[test]
    fn long_silence_after_a_fault_is_a_violation() {
        let silent = |gap: u64, bytes: usize| {
            let story = Story::of_four_events().edit(|t, op| match op {
                Op::RecvBegin(_) | Op::RecvEnd(_) if *t > KILL + SECOND => {
                    *t = HEALED + gap + *t % 2;
                }
                Op::IngestInvoke(invoke) => invoke.bytes = bytes,
                _ => {}
            });
            verdict_line(&CHECKER, &story.history())
        };
        let line = "1 of 1 broken; 22500 ms passed between a worker.kill and the next delivery (lines [26])";
        let small = LARGE_BYTES_MIN - 1;
        assert!(silent(BOUND, small).starts_with("valid"));
        assert_eq!(silent(BOUND + SECOND, small), format!("INVALID: {line}"));
        assert!(silent(BOUND + 2, small).starts_with("INVALID"));
        // A large event may have been released for a minute.
        assert!(!silent(BOUND + 2, LARGE_BYTES_MIN).starts_with("INVALID"));
    }

    #[test]
    fn delivery_at_the_end_of_a_fault_is_the_next_one() {
        let story = Story::of_four_events().with_receipt(HEALED - 1_000, 0, 9);
        assert_eq!(only(&Facts::of(&story.history())).0, Some(0));
    }

    #[test]
    fn interval_includes_its_begin_and_excludes_its_end() {
        assert_eq!(within(&[1, 5, 9], 5, 9), 1);
        assert_eq!(within(&[1, 5, 9], 6, 10), 1);
        assert_eq!(within(&[1, 5, 9], 2, 5), 0);
    }

    // If faults take longer than the posts, few events are left between them.
    #[test]
    fn without_events_left_the_silence_begins_with_the_next_accept() {
        let alone = |accepted: u64| {
            let others = |op: &Op| matches!(op, Op::RecvBegin(begin) if begin.ordinal == Some(1) && begin.attempt == Some(2));
            let late = HEALED + 2 * BOUND;
            let story = Story::of_four_events().without(others).edit(|_, op| {
                if let Op::State(state) = op
                    && state.ordinal == 1
                {
                    state.status = Some("dead".into());
                }
            });
            check(&Facts::of(&story.with_event(7, 0, accepted, late - accepted).history()))
        };
        assert!(alone(HEALED + BOUND + 1_000).is_valid());
        assert!(alone(HEALED + BOUND + 999).is_invalid());
        assert!(alone(KILL).is_invalid());
    }

    // Ten deliveries in two seconds are five per second. Nine tenths of that, rounded up, are five.
    #[test]
    fn rate_is_back_at_the_first_delivery_of_a_full_window() {
        let alone = || with_baseline(10, 15 * SECOND).with_receipt(HEALED + SECOND, 0, 9);
        let story = || delivered_from(alone(), HEALED + 3 * SECOND, 5);
        assert_eq!(rate_of(story()), Some(Rate::Back(3 * SECOND + 1_000)));
        assert_eq!(
            verdict_line(&CHECKER, &story().history()),
            "valid: 1 examined, at most 1001 ms to the next delivery, and at the baseline rate after 1 faults"
        );
    }

    #[test]
    fn last_delivery_of_a_window_comes_within_a_second() {
        let last_after = |us| {
            let four = delivered_from(with_baseline(10, 15 * SECOND), HEALED, 4);
            rate_of(four.with_receipt(HEALED + us, 0, 9))
        };
        assert_eq!(last_after(SECOND - 1), Some(Rate::Back(1_000)));
        assert_eq!(last_after(SECOND), Some(Rate::Away(15 * SECOND - HEALED)));
    }

    #[test]
    fn four_deliveries_per_second_are_below_the_rate() {
        let story = delivered_from(with_baseline(10, 15 * SECOND), HEALED + SECOND, 4);
        let watched = 15 * SECOND - HEALED;
        assert_eq!(rate_of(story), Some(Rate::Away(watched)));
    }

    #[test]
    fn baseline_of_nine_deliveries_has_no_rate() {
        let story = delivered_from(with_baseline(9, 15 * SECOND), HEALED, 5);
        assert_eq!(rate_of(story), None);
    }

    #[test]
    fn rate_is_measured_until_the_last_post_or_the_next_fault() {
        let late = |last_post| delivered_from(with_baseline(10, last_post), HEALED + SECOND, 5);
        let (after, before) = (HEALED + 2 * SECOND, HEALED + SECOND);
        assert_eq!(rate_of(late(before)), Some(Rate::Away(SECOND)));
        assert_eq!(rate_of(late(after)), Some(Rate::Back(SECOND + 1_000)));
        let next = late(after).with(before, Op::FaultStart(fault(2)));
        assert_eq!(rate_of(next), Some(Rate::Away(SECOND)));
        // Also not into a fault that began before and ends later.
        let another = |healed| {
            let end = Op::FaultEnd(FaultEnd { fault: 2 });
            let story = late(after).with(KILL, Op::FaultStart(fault(2)));
            rate_of(story.with(healed, end))
        };
        assert_eq!(another(HEALED), Some(Rate::Back(SECOND + 1_000)));
        assert_eq!(another(HEALED + 1), Some(Rate::Away(0)));
    }

    #[test]
    fn fault_that_ended_before_changes_nothing() {
        let story = delivered_from(with_baseline(10, 15 * SECOND), HEALED, 5)
            .with(SECOND, Op::FaultStart(fault(2)))
            .with(2 * SECOND, Op::FaultEnd(FaultEnd { fault: 2 }));
        assert_eq!(rate_of(story), Some(Rate::Back(1_000)));
    }

    #[test]
    fn low_rate_beyond_the_bound_is_a_violation() {
        let slow = |watched| {
            let story = with_baseline(10, HEALED + watched).with_receipt(HEALED, 0, 9);
            verdict_line(&CHECKER, &story.history())
        };
        let line = "valid: 1 examined, at most 1 ms to the next delivery, and at the baseline rate after 0 faults";
        assert_eq!(slow(BOUND), line);
        assert_eq!(
            slow(BOUND + 1),
            "INVALID: 1 of 1 broken; 21500 ms after a worker.kill, deliveries were still slower than in \
             the baseline (lines [46])"
        );
    }

    #[test]
    fn fault_that_outlasts_every_delivery_exercises_nothing() {
        let exercised = |story: Story| is_exercised(&Facts::of(&story.history()));
        let ends = |at: u64| {
            Story::of_four_events().edit(move |t, op| {
                if matches!(op, Op::FaultEnd(_)) {
                    *t = at;
                }
            })
        };
        // Event 1 is delivered last in its section.
        let delivered_us = KILL + 2 * SECOND + 1_000;
        assert!(exercised(ends(delivered_us)));
        assert!(!exercised(ends(delivered_us + 1)));
        let lost = |op: &Op| matches!(op, Op::RecvBegin(begin) if begin.ordinal == Some(2));
        assert!(exercised(ends(delivered_us + 1).without(lost)));
        assert!(!exercised(Story::of_four_events().without_faults()));
    }

    #[test]
    fn deliveries_at_default_settings_are_not_counted() {
        let story = Story::of_four_events()
            .without(|op| matches!(op, Op::RecvBegin(begin) if begin.ordinal != Some(3)));
        assert_eq!(check(&Facts::of(&story.history())).word(), "unknown");
    }

    #[test]
    fn run_without_faults_is_unknown() {
        let history = Story::of_four_events().without_faults().history();
        assert_eq!(check(&Facts::of(&history)).word(), "unknown");
    }

    fn fault(number: u64) -> FaultStart {
        FaultStart::new(number, &PauseWorker::KIND, w0())
    }
}
