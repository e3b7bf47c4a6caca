//! Without faults, due events are claimed and expired leases are ended within a bound.
//!
//! `liveness` judges only the end of the drain. This checker judges each interval of a run in which
//! no fault was active and the last one had ended some time before.

use super::backoff::{QUEUE_SLACK_US, RECOVERY_SLACK_US};
use super::declaration::{Checker, Need, Property, When};
use super::verdict::{Examination, Verdict};
use crate::history::facts::{Facts, RowFacts};
use crate::history::op::Phase;
use crate::history::transition::Step;
use crate::profile::Settings;

/// The declaration of this checker.
pub const CHECKER: Checker = Checker {
    name: "progress",
    invariant: "without faults, due events are claimed and expired leases are ended within a bound",
    property: Property::Liveness,
    when: When::ALWAYS,
    needs: &[Need::Audit],
    check,
};

/// Time within which a worker ends an expired lease, in microseconds: five seconds of grace after
/// an outage, five seconds between two sweeps, and one second of slack.
const EXPIRED_SWEEP_US: u64 = 11_000_000;

fn check(facts: &Facts<'_>) -> Verdict {
    let mut examination = Examination::default();
    let Some(end) = facts.phases.get(&Phase::FinalReads).map(|(t, _)| *t) else {
        return Verdict::Unknown { examined: 0, why: "the run has no final reads".into() };
    };
    let storms = storms(facts);
    let zero_us = zero_us(facts);
    for (id, row) in &facts.rows {
        let Some(settings) = facts.settings_of(row) else {
            continue;
        };
        for wait in waits(row, end, zero_us) {
            examination.saw_one();
            let bound = wait.bound_us(settings, facts.rows.len());
            let calm = longest_calm(&storms, wait.from, wait.to);
            if calm > bound {
                let what = format!(
                    "event {id} {} for {} ms without a fault",
                    wait.description(),
                    calm / 1_000
                );
                examination.broken(what, [wait.seq]);
            }
        }
    }
    examination.verdict("no transition was recorded", "every wait within its bound".into())
}

/// The time in which an event was due or its lease had expired.
struct Wait {
    from: u64,
    to: u64,
    seq: u64,
    leased: bool,
}

impl Wait {
    const fn description(&self) -> &'static str {
        if self.leased { "kept an expired lease" } else { "was due" }
    }

    fn bound_us(&self, settings: &Settings, rows: usize) -> u64 {
        if self.leased {
            return EXPIRED_SWEEP_US + QUEUE_SLACK_US;
        }
        // Every event before it may use its full deadline.
        let turns = rows as u64 / u64::from(settings.max_in_flight.max(1)) + 1;
        (settings.poll_ms + settings.http_timeout_ms * turns) * 1_000 + QUEUE_SLACK_US
    }
}

/// From each due time to its claim, and from each expiry to the end of the lease.
fn waits<'a>(row: &'a RowFacts<'_>, end: u64, zero_us: i64) -> impl Iterator<Item = Wait> + 'a {
    let ends = row.steps.iter().skip(1).map(|(_, at)| at.t);
    let ends = ends.chain(std::iter::once(end));
    row.steps.iter().zip(ends).filter_map(move |((step, at), to)| {
        let leased = *step == Step::Claim;
        let begins = if leased { at.op.lease_until_us } else { at.op.due_us };
        let from = u64::try_from(begins? - zero_us).unwrap_or(0).max(at.t);
        // An event that was claimed before its line was read has a wait of zero, which counts
        // as examined.
        (!at.op.after.is_final()).then_some(Wait { from, to: to.max(from), seq: at.seq, leased })
    })
}

/// Returns the database clock at the begin of the run, as the earliest that any transition implies.
/// A clock that a fault moves can then only make due times late.
fn zero_us(facts: &Facts<'_>) -> i64 {
    let steps = facts.rows.values().flat_map(|row| &row.steps);
    steps.map(|(_, at)| at.op.now_us - i64::try_from(at.t).unwrap_or(0)).min().unwrap_or(0)
}

/// Returns the intervals of faults and their aftermath in order of begin. They may overlap.
fn storms(facts: &Facts<'_>) -> Vec<(u64, u64)> {
    let after = |end: u64| end.saturating_add(RECOVERY_SLACK_US);
    let mut storms: Vec<(u64, u64)> = facts
        .faults
        .iter()
        .map(|fault| (fault.start.t, fault.end_us.map_or(u64::MAX, after)))
        .collect();
    storms.sort_unstable();
    storms
}

fn longest_calm(storms: &[(u64, u64)], from: u64, to: u64) -> u64 {
    let (mut calm, mut longest) = (from, 0);
    for (begin, end) in storms {
        if *begin >= to {
            break;
        }
        longest = longest.max(begin.saturating_sub(calm));
        calm = calm.max(*end);
    }
    longest.max(to.saturating_sub(calm))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::story::Story;
    use crate::checker::story::ops::w0;
    use crate::checker::verdict_line;
    use crate::history::op::{Op, PhaseBegin};
    use crate::nemesis::PauseWorker;

    /// The verdict on a story with its final reads at this time.
    fn read_at(end: u64, story: Story) -> String {
        let story = story.edit(|t, op| {
            if matches!(op, Op::Phase(PhaseBegin { phase, .. }) if *phase == Phase::FinalReads) {
                *t = end;
            }
        });
        verdict_line(&CHECKER, &story.history())
    }

    fn is_valid(end: u64, story: Story) -> bool {
        read_at(end, story).starts_with("valid")
    }

    /// The accepted event with this many permits.
    fn permits(max_in_flight: u32) -> Story {
        Story::accepted().edit(move |_, op| {
            if let Op::RunStart(start) = op {
                let settings = start.sections.values_mut();
                settings.for_each(|settings| settings.max_in_flight = max_in_flight);
            }
        })
    }

    #[test]
    fn due_event_is_claimed_within_poll_deadlines_and_queue() {
        // Due at 10 ms; the poll is 250 ms, the deadline 1.5 s.
        let within = |permits: Story, turns: u64| {
            let bound = 10_000 + 250_000 + turns * 1_500_000 + QUEUE_SLACK_US;
            is_valid(bound, permits)
        };
        let beyond = |permits: Story, turns: u64| {
            let bound = 10_000 + 250_000 + turns * 1_500_000 + QUEUE_SLACK_US;
            !is_valid(bound + 1, permits)
        };
        for (most, turns) in [(512, 1), (2, 1), (1, 2)] {
            assert!(within(permits(most), turns), "{most}");
            assert!(beyond(permits(most), turns), "{most}");
        }
    }

    #[test]
    fn expired_lease_is_ended_within_sweep_and_queue() {
        // Claimed at 20 ms for 4 s.
        let claimed = || Story::accepted().then(20, Step::Claim, |_| {});
        let bound = 4_020_000 + EXPIRED_SWEEP_US + QUEUE_SLACK_US;
        assert!(is_valid(bound, claimed()));
        assert_eq!(
            read_at(bound + 1_000, claimed()),
            "INVALID: 1 of 2 broken; event e kept an expired lease for 16001 ms without a fault \
             (lines [5])"
        );
    }

    #[test]
    fn waits_are_counted_and_violations_state_them() {
        let judged = |story: Story| verdict_line(&CHECKER, &story.history());
        assert_eq!(judged(Story::of_one_event()), "valid: 6 examined, every wait within its bound");
        assert_eq!(
            judged(Story::accepted()),
            "INVALID: 1 of 1 broken; event e was due for 59990 ms without a fault (lines [3])"
        );
        let unread = Story::of_one_event().without(|op| matches!(op, Op::Phase(_)));
        assert_eq!(judged(unread), "unknown: 0 examined, the run has no final reads");
    }

    #[test]
    fn fault_and_its_aftermath_are_excluded() {
        let second = 1_000_000;
        let story = || Story::accepted().with_fault(PauseWorker::KIND, w0(), second..20 * second);
        let bound = 6_750_000;
        let calm = 20 * second + RECOVERY_SLACK_US;
        assert!(is_valid(calm + bound, story()));
        assert!(!is_valid(calm + bound + 1, story()));
        // A fault inside of the first one changes nothing.
        let within = || story().with_fault(PauseWorker::KIND, w0(), 2 * second..3 * second);
        assert!(is_valid(calm + bound, within()));
    }

    #[test]
    fn unclaimed_due_event_is_a_violation() {
        let story = Story::of_one_event().without(
            |op| matches!(op.transition(), Some((step, at)) if step != Step::Accept || at.attempt > 0),
        );
        assert!(check(&Facts::of(&story.history())).is_invalid());
    }

    #[test]
    fn expired_lease_that_stays_is_a_violation() {
        let story = Story::of_one_event()
            .without(|op| matches!(op.transition(), Some((_, at)) if at.attempt > 1))
            .without(|op| matches!(op, Op::Settle(_)));
        assert!(check(&Facts::of(&story.history())).is_invalid());
    }

    #[test]
    fn wait_during_a_fault_is_excused() {
        let story = Story::of_one_event()
            .without(|op| matches!(op.transition(), Some((step, _)) if step != Step::Accept))
            .without(|op| matches!(op, Op::FaultEnd(_)))
            .edit(|t, op| {
                if op.source() == "fault" {
                    *t = 1;
                }
            });
        assert!(check(&Facts::of(&story.history())).is_valid());
    }

    #[test]
    fn longest_interval_without_faults_is_measured() {
        assert_eq!(longest_calm(&[(10, 60), (20, 30)], 0, 100), 40);
        let storms = [(10, 20), (50, 60)];
        assert_eq!(longest_calm(&storms, 0, 100), 40);
        assert_eq!(longest_calm(&storms, 15, 55), 30);
        assert_eq!(longest_calm(&storms, 12, 18), 0);
        assert_eq!(longest_calm(&[], 5, 9), 4);
    }
}
