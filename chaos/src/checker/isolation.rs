//! A target that hangs or has a deep backlog does not delay the others, and neither do large events
//! on a slow link to the database: other events are sent about as soon as in the baseline.
//!
//! The wait of an event is the time from its 202 to its first request. Events that another fault
//! may have delayed are not compared. The bound includes the delay that a loaded machine may add,
//! which is shorter than a hang.

use super::backoff::RECOVERY_SLACK_US;
use super::declaration::{Checker, Property, When};
use super::verdict::{Examination, Verdict};
use crate::fault::Family;
use crate::history::facts::{EventFacts, Facts, FaultFacts};
use crate::history::op::{Phase, Section};

/// The declaration of this checker.
pub const CHECKER: Checker = Checker {
    name: "isolation",
    invariant: "while a target hangs or has a deep backlog, or large events pass a slow link, other events \
                wait about as long as in the baseline",
    property: Property::Liveness,
    when: When::only_if("a target hung or had a deep backlog beside others", is_exercised),
    needs: &[],
    check,
};

/// Minimum number of waits on each side of the comparison.
const WAITS_MIN: usize = 5;
/// Bound of a wait as a multiple of the baseline.
const FACTOR: u64 = 2;
/// Delay that a loaded machine may add to a wait, in microseconds.
pub const SLACK_US: u64 = 2_000_000;
/// The percentile of the waits that must be within the bound.
const PERCENTILE: usize = 99;

/// The wait of one event for its first request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Wait {
    us: u64,
    ordinal: u64,
    seqs: [u64; 2],
    /// False if the event was never sent, so that the wait lasts until the final reads.
    is_sent: bool,
}

/// Returns true if enough events can be compared.
fn is_exercised(facts: &Facts<'_>) -> bool {
    baseline(facts).len() >= WAITS_MIN && beside_a_busy_target(facts).len() >= WAITS_MIN
}

fn check(facts: &Facts<'_>) -> Verdict {
    let mut examination = Examination::default();
    let (quiet, beside) = (baseline(facts), beside_a_busy_target(facts));
    if quiet.len() < WAITS_MIN || beside.len() < WAITS_MIN {
        examination.doubt("too few events can be compared with those of the baseline".into());
    }
    let (quiet_us, beside_us) = (percentile(&quiet), percentile(&beside));
    let bound_us = quiet_us * FACTOR + SLACK_US;
    for wait in &beside {
        examination.saw_one();
        if beside_us > bound_us && wait.us > bound_us {
            let what = format!(
                "event {} waited {} ms beside a busy target or large events, and the bound is {} ms",
                wait.ordinal,
                wait.us / 1_000,
                bound_us / 1_000
            );
            examination.broken(what, wait.seqs);
        }
    }
    let note =
        format!("p{PERCENTILE} {} ms, {} ms in the baseline", beside_us / 1_000, quiet_us / 1_000);
    examination.verdict("no event was accepted beside such a target", note)
}

/// The waits of the events that were accepted in the baseline and sent, shortest first.
fn baseline(facts: &Facts<'_>) -> Vec<Wait> {
    let begin = facts.phases.get(&Phase::Baseline);
    let window = begin.zip(facts.phases.get(&Phase::Storm));
    let waits = window.map(|((from, _), (to, _))| waits(facts, *from, *to, &[]));
    let mut waits = waits.unwrap_or_default();
    waits.retain(|wait| wait.is_sent);
    waits
}

/// The waits of the other events that were accepted while a target hung or had a backlog, or while
/// large events passed a slow link, shortest first.
fn beside_a_busy_target(facts: &Facts<'_>) -> Vec<Wait> {
    let busy = facts.faults.iter().filter(|fault| is_isolated(fault));
    let mut found = Vec::new();
    for fault in busy {
        let end_us = fault.end_us.unwrap_or(u64::MAX);
        let hanging = fault.target().receivers();
        found.extend(waits(facts, fault.effective_us(), end_us, hanging));
    }
    found.sort_unstable();
    found
}

/// Returns true if the fault must delay only the events of its targets, or only large events.
fn is_isolated(fault: &FaultFacts<'_>) -> bool {
    fault.may_take_permits() || fault.delays_large_events()
}

fn waits(facts: &Facts<'_>, from: u64, to: u64, hanging: &[u32]) -> Vec<Wait> {
    let main = facts.accepted().filter(|(_, event)| event.section() == Section::Main);
    let mut found: Vec<Wait> = main
        .filter_map(|(ordinal, event)| wait(facts, ordinal, event, hanging))
        .filter(|(t, _)| (from..to).contains(t))
        .map(|(_, wait)| wait)
        .collect();
    found.sort_unstable();
    found
}

/// Returns the time of the 202 and the wait of an event, or `None` if another fault may have
/// delayed it. An event without a request waits until the final reads, unless a receiver hangs: it
/// may be its target.
fn wait(
    facts: &Facts<'_>,
    ordinal: u64,
    event: &EventFacts<'_>,
    hanging: &[u32],
) -> Option<(u64, Wait)> {
    let accepted = event.acknowledged.first()?;
    let first = event.receipts.first();
    let receiver = first.and_then(|first| first.begin.op.receiver());
    let is_of_target = match receiver {
        Some(receiver) => hanging.contains(&receiver),
        None => first.is_none() && !hanging.is_empty(),
    };
    if event.is_large() || is_of_target {
        return None;
    }
    let t = accepted.t;
    let (until_us, seq) = match first {
        Some(first) => (first.begin.t, first.begin.seq),
        None => (facts.phases.get(&Phase::FinalReads)?.0, accepted.seq),
    };
    let mut others = facts.faults.iter().filter(|fault| !is_isolated(fault));
    let explains = |fault: &FaultFacts<'_>| {
        let may_delay = first.is_none_or(|first| fault.may_lose_or_delay(first));
        let of_another = fault.family() == Family::Receiver && !may_delay;
        !of_another && fault.overlaps(t, until_us, RECOVERY_SLACK_US)
    };
    if others.any(explains) {
        return None;
    }
    let wait = Wait {
        us: until_us.saturating_sub(t),
        ordinal,
        seqs: [accepted.seq, seq],
        is_sent: first.is_some(),
    };
    Some((t, wait))
}

fn percentile(waits: &[Wait]) -> u64 {
    let at = (waits.len() * PERCENTILE).div_ceil(100).saturating_sub(1);
    waits.get(at).map_or(0, |wait| wait.us)
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;
    use crate::checker::story::ops::{links, phase, w0};
    use crate::checker::story::{SECOND, Story};
    use crate::fault::{Kind, Target};
    use crate::history::facts::LARGE_BYTES_MIN;
    use crate::history::op::{FaultEffect, Op};
    use crate::nemesis::{
        DeepBacklog, HangMost, HangReceiver, KillWorker, RefuseReceiver, SlowLink,
    };

    const HANG: u64 = 10 * SECOND;
    const HEAL: u64 = 15 * SECOND;

    /// Numbers and waits of the events of receiver 1, in the baseline and while receiver 0 hangs.
    struct Plan {
        quiet: u64,
        quiet_us: u64,
        beside: u64,
        beside_us: u64,
    }

    const ENOUGH: Plan = Plan { quiet: 5, quiet_us: 10_000, beside: 5, beside_us: 20_000 };

    /// Adds a fault that is effective from its start.
    fn with_effective_fault(
        story: Story,
        kind: Kind,
        target: Target,
        under_way: Range<u64>,
    ) -> Story {
        let effect = FaultEffect {
            fault: under_way.start,
            effective_us: under_way.start,
            hit: vec![],
            observed: Some("as a test".into()),
        };
        story.with(under_way.end, Op::FaultEffect(effect)).with_fault(kind, target, under_way)
    }

    impl Plan {
        fn story(&self) -> Story {
            let is_recorded = |op: &Op| !matches!(op, Op::RunStart(_));
            let mut story = Story::of_four_events()
                .without(is_recorded)
                .with(0, phase(Phase::Baseline))
                .with(5 * SECOND, phase(Phase::Storm));
            for n in 0..self.quiet {
                story = story.with_event(100 + n, 1, n * SECOND / 2, self.quiet_us);
            }
            for n in 0..self.beside {
                story = story.with_event(200 + n, 1, HANG + n * SECOND / 2, self.beside_us);
            }
            let target = Target::Receiver(0);
            with_effective_fault(story, HangReceiver::KIND, target, HANG..HEAL)
        }
    }

    fn judged(story: Story) -> &'static str {
        let history = story.history();
        let facts = Facts::of(&history);
        let verdict = check(&facts);
        assert_eq!(is_exercised(&facts), verdict.word() != "unknown");
        verdict.word()
    }

    #[test]
    fn wait_within_the_bound_is_valid() {
        assert_eq!(judged(ENOUGH.story()), "valid");
        let bound_us = 2 * ENOUGH.quiet_us + SLACK_US;
        let waiting = |beside_us| Plan { beside_us, ..ENOUGH }.story();
        assert_eq!(judged(waiting(bound_us)), "valid");
        assert_eq!(judged(waiting(bound_us + 1)), "INVALID");
    }

    #[test]
    fn only_waits_over_the_bound_are_violations() {
        let late = 3 * SECOND;
        // A wait of exactly the bound is no violation.
        let bound_us = 2 * ENOUGH.quiet_us + SLACK_US;
        let story = ENOUGH.story().with_event(299, 2, HANG, bound_us);
        let story = story.with_event(300, 2, HANG, late);
        match check(&Facts::of(&story.history())) {
            Verdict::Invalid { examined, violations, .. } => {
                assert_eq!((examined, violations), (7, 1))
            }
            verdict => panic!("{verdict:?}"),
        }
    }

    #[test]
    fn one_of_a_hundred_events_may_wait_longer() {
        let with_late = |late: u64| {
            let soon = |story: Story, n| story.with_event(300 + n, 1, HANG + n, 10_000);
            let waiting = |story: Story, n| story.with_event(400 + n, 1, HANG, 3 * SECOND);
            let many = (0..94).fold(ENOUGH.story(), soon);
            judged((0..late).fold(many, waiting))
        };
        assert_eq!((with_late(1), with_late(2)), ("valid", "INVALID"));
        // The second longest wait of the hundred is exactly the bound.
        let soon = |story: Story, n| story.with_event(300 + n, 1, HANG + n, 10_000);
        let many = (0..93).fold(ENOUGH.story(), soon);
        let bound_us = 2 * ENOUGH.quiet_us + SLACK_US;
        let waiting = many.with_event(500, 1, HANG, bound_us).with_event(501, 1, HANG, 3 * SECOND);
        assert_eq!(judged(waiting), "valid");
    }

    #[test]
    fn events_of_the_hanging_target_are_not_judged() {
        let story = ENOUGH.story().with_event(300, 0, HANG, 4 * SECOND);
        assert_eq!(judged(story), "valid");
    }

    #[test]
    fn events_beside_several_hanging_targets_are_judged() {
        let others = |receiver| {
            let target = Target::Receivers(vec![0, 2]);
            let story = ENOUGH.story().without(|op| op.source() == "fault").with_event(
                300,
                receiver,
                HANG,
                4 * SECOND,
            );
            judged(with_effective_fault(story, HangMost::KIND, target, HANG..HEAL))
        };
        assert_eq!([0, 1, 2].map(others), ["valid", "INVALID", "valid"]);
    }

    #[test]
    fn events_beside_large_ones_on_a_slow_link_are_judged() {
        let beside = |bytes| {
            let story = ENOUGH.story().without(|op| op.source() == "fault");
            let story = story.with_event(300, 1, HANG, 3 * SECOND).edit(move |_, op| {
                if let Op::IngestInvoke(invoke) = op
                    && invoke.ordinal == 300
                {
                    invoke.bytes = bytes;
                }
            });
            judged(with_effective_fault(story, SlowLink::KIND, links("w0->pg"), HANG..HEAL))
        };
        assert_eq!(beside(LARGE_BYTES_MIN - 1), "INVALID");
        assert_eq!(beside(LARGE_BYTES_MIN), "valid");
    }

    #[test]
    fn every_event_of_the_plan_is_judged_beside_a_deep_backlog() {
        let beside = |wait_us| {
            let story = ENOUGH.story().without(|op| op.source() == "fault");
            let story = story.with_event(300, 0, HANG, wait_us);
            let target = Target::OtherReceiver;
            judged(with_effective_fault(story, DeepBacklog::KIND, target, HANG..HEAL))
        };
        assert_eq!([SECOND, 3 * SECOND].map(beside), ["valid", "INVALID"]);
    }

    /// A run in which event 300, accepted at `t`, is never sent.
    fn never_sent(t: u64, kind: Kind, target: Target) -> Story {
        let story = ENOUGH.story().without(|op| op.source() == "fault");
        let story = story.with_event(300, 0, t, 0).without(|op| match op {
            Op::RecvBegin(begin) => begin.ordinal == Some(300),
            Op::RecvEnd(end) => end.req == "r0-300",
            _ => false,
        });
        let story = story.with(20 * SECOND, phase(Phase::FinalReads));
        with_effective_fault(story, kind, target, HANG..HEAL)
    }

    // It may belong to the target that hangs: only requests name their receiver.
    #[test]
    fn event_that_is_never_sent_waits_too_long_unless_a_target_hangs() {
        let at = |t| judged(never_sent(t, DeepBacklog::KIND, Target::OtherReceiver));
        assert_eq!([HANG - 1, HANG, HEAL].map(at), ["valid", "INVALID", "valid"]);
        let hang = judged(never_sent(HANG, HangReceiver::KIND, Target::Receiver(0)));
        assert_eq!(hang, "valid");
    }

    #[test]
    fn event_of_the_baseline_that_is_never_sent_raises_no_bound() {
        let late = never_sent(SECOND, DeepBacklog::KIND, Target::OtherReceiver);
        assert_eq!(judged(late.with_event(301, 1, HANG, 3 * SECOND)), "INVALID");
    }

    #[test]
    fn event_that_another_fault_may_delay_is_not_judged() {
        let late = || ENOUGH.story().with_event(300, 2, HANG + SECOND, 3 * SECOND);
        assert_eq!(judged(late()), "INVALID");
        let killed = |end| with_effective_fault(late(), KillWorker::KIND, w0(), 5 * SECOND..end);
        let aftermath = HANG + SECOND - RECOVERY_SLACK_US;
        // The aftermath also excludes events of the first second, so five later ones are added.
        let more = |story: Story| {
            let one = |story: Story, n: u64| story.with_event(600 + n, 1, HEAL - SECOND, 10);
            (0..5).fold(story, one)
        };
        assert_eq!(judged(more(killed(aftermath))), "valid");
        assert_eq!(judged(more(killed(aftermath - 1))), "INVALID");
    }

    #[test]
    fn refusing_receiver_explains_only_waits_of_its_events() {
        let late = || ENOUGH.story().with_event(300, 2, HANG, 3 * SECOND);
        let away = |target: &'static str| {
            let refused = 9 * SECOND..HANG - 1;
            with_effective_fault(late(), RefuseReceiver::KIND, links(target), refused)
        };
        assert_eq!(judged(away("workers->r2")), "valid");
        assert_eq!(judged(away("workers->r3")), "INVALID");
    }

    #[test]
    fn events_after_the_heal_or_of_defaults_are_not_judged() {
        let after = ENOUGH.story().with_event(300, 2, HEAL, 4 * SECOND);
        assert_eq!(judged(after), "valid");
        let other = ENOUGH.story().with_event(300, 2, HANG, 4 * SECOND).edit(|_, op| {
            if let Op::IngestInvoke(invoke) = op
                && invoke.ordinal == 300
            {
                invoke.section = Section::Defaults;
            }
        });
        assert_eq!(judged(other), "valid");
    }

    #[test]
    fn too_few_events_on_either_side_are_unknown() {
        assert_eq!(judged(Plan { quiet: 4, ..ENOUGH }.story()), "unknown");
        assert_eq!(judged(Plan { beside: 4, ..ENOUGH }.story()), "unknown");
        assert_eq!(judged(Plan { beside: 0, ..ENOUGH }.story()), "unknown");
    }

    #[test]
    fn run_without_a_hang_or_a_baseline_is_unknown() {
        let without = |drop: fn(&Op) -> bool| judged(ENOUGH.story().without(drop));
        assert_eq!(without(|op| op.source() == "fault"), "unknown");
        let is_baseline = |op: &Op| matches!(op, Op::Phase(at) if at.phase == Phase::Baseline);
        assert_eq!(without(is_baseline), "unknown");
    }
}
