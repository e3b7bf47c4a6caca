//! Progress under tolerable faults: while nothing is wrong, what is due is claimed, and a lease that
//! ran out is ended.
//!
//! `liveness` looks at the end of the drain alone; this looks at every stretch of a run in which no
//! fault was under way and the last one was over for a while.

use super::backoff::{QUEUE_SLACK_US, RECOVERY_SLACK_US};
use super::{Checker, Examination, Kind, Verdict};
use crate::history::facts::{Facts, RowFacts};
use crate::history::op::Phase;
use crate::history::transition::Step;
use crate::profile::Settings;

/// The register's entry.
pub const CHECKER: Checker = Checker {
    name: "progress",
    invariant: "while nothing is wrong, a due event is claimed and an expired lease is ended, both soon",
    kind: Kind::Liveness,
    check,
};

/// A lease that ran out is found out within this, in microseconds: five seconds of trust after an
/// outage, and five between two looks.
const EXPIRED_LOOK_US: u64 = 11_000_000;

fn check(facts: &Facts<'_>) -> Verdict {
    let mut examination = Examination::default();
    let Some(end) = facts.phases.get(&Phase::FinalReads).map(|(t, _)| *t) else {
        return Verdict::Unknown {
            examined: 0,
            why: "the run did not come to its end".into(),
        };
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
                    "event {id} {} for {} ms although nothing was wrong",
                    wait.what(),
                    calm / 1_000
                );
                examination.broken(what, [wait.seq]);
            }
        }
    }
    examination.verdict("the store told no transition", "nothing waited long".into())
}

/// A time in which something was to be done for an event.
struct Wait {
    from: u64,
    to: u64,
    seq: u64,
    leased: bool,
}

impl Wait {
    const fn what(&self) -> &'static str {
        if self.leased {
            "kept a lease that had run out"
        } else {
            "was due"
        }
    }

    fn bound_us(&self, settings: &Settings, rows: usize) -> u64 {
        if self.leased {
            return EXPIRED_LOOK_US + QUEUE_SLACK_US;
        }
        // Every event before it may hang to its deadline.
        let turns = rows as u64 / u64::from(settings.max_in_flight.max(1)) + 1;
        (settings.poll_ms + settings.http_timeout_ms * turns) * 1_000 + QUEUE_SLACK_US
    }
}

/// From each due time to its claim, and from each expiry to the end of the lease.
fn waits<'a>(row: &'a RowFacts<'_>, end: u64, zero_us: i64) -> impl Iterator<Item = Wait> + 'a {
    let ends = row.steps.iter().skip(1).map(|(_, at)| at.t);
    let ends = ends.chain(std::iter::once(end));
    row.steps
        .iter()
        .zip(ends)
        .filter_map(move |((step, at), to)| {
            let leased = *step == Step::Claim;
            let begins = if leased {
                at.op.lease_until_us
            } else {
                at.op.due_us
            };
            let from = u64::try_from(begins? - zero_us).unwrap_or(0).max(at.t);
            // What was taken up before its line was read has waited for no time at all: that is examined, too.
            (!at.op.after.is_final()).then_some(Wait {
                from,
                to: to.max(from),
                seq: at.seq,
                leased,
            })
        })
}

/// The database's clock at the begin of the run: the earliest that any transition speaks for, so that
/// a clock that was moved makes due times late here, never early.
fn zero_us(facts: &Facts<'_>) -> i64 {
    let steps = facts.rows.values().flat_map(|row| &row.steps);
    steps
        .map(|(_, at)| at.op.now_us - i64::try_from(at.t).unwrap_or(0))
        .min()
        .unwrap_or(0)
}

/// When something was wrong or just over, in order of begin; they may overlap.
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
    use crate::checker::said;
    use crate::checker::sample::w0;
    use crate::checker::story::Story;
    use crate::history::op::{Op, PhaseBegin};
    use crate::nemesis::PauseWorker;

    /// What is said of a story that is read at that time.
    fn read_at(end: u64, story: Story) -> String {
        let story = story.edit(|t, op| {
            if matches!(op, Op::Phase(PhaseBegin { phase, .. }) if *phase == Phase::FinalReads) {
                *t = end;
            }
        });
        said(&CHECKER, &story.history())
    }

    fn is_valid(end: u64, story: Story) -> bool {
        read_at(end, story).starts_with("valid")
    }

    /// With so many permits.
    fn permits(max_in_flight: u32) -> Story {
        Story::accepted().edit(move |_, op| {
            if let Op::RunStart(start) = op {
                let settings = start.sections.values_mut();
                settings.for_each(|settings| settings.max_in_flight = max_in_flight);
            }
        })
    }

    #[test]
    fn a_due_event_is_claimed_within_a_poll_the_deadlines_before_it_and_the_queue() {
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
    fn a_lease_that_ran_out_is_ended_within_the_look_for_it_and_the_queue() {
        // Claimed at 20 ms for 4 s.
        let claimed = || Story::accepted().then(20, Step::Claim, |_| {});
        let bound = 4_020_000 + EXPIRED_LOOK_US + QUEUE_SLACK_US;
        assert!(is_valid(bound, claimed()));
        assert_eq!(
            read_at(bound + 1_000, claimed()),
            "INVALID: 1 of 2 broken; event e kept a lease that had run out for 16001 ms although nothing \
             was wrong (lines [5])"
        );
    }

    #[test]
    fn what_was_looked_at_is_told() {
        let told = |story: Story| said(&CHECKER, &story.history());
        assert_eq!(
            told(Story::default()),
            "valid: 6 examined, nothing waited long"
        );
        assert_eq!(
            told(Story::accepted()),
            "INVALID: 1 of 1 broken; event e was due for 59990 ms although nothing was wrong (lines [3])"
        );
        let unread = Story::default().without(|op| matches!(op, Op::Phase(_)));
        assert_eq!(
            told(unread),
            "unknown: 0 examined, the run did not come to its end"
        );
    }

    #[test]
    fn a_fault_and_a_while_after_it_are_no_calm() {
        let second = 1_000_000;
        let story = || Story::accepted().with_fault(PauseWorker::KIND, w0(), (second, 20 * second));
        let bound = 6_750_000;
        let calm = 20 * second + RECOVERY_SLACK_US;
        assert!(is_valid(calm + bound, story()));
        assert!(!is_valid(calm + bound + 1, story()));
        // Another that begins within the first does not end before it.
        let within = || story().with_fault(PauseWorker::KIND, w0(), (2 * second, 3 * second));
        assert!(is_valid(calm + bound, within()));
    }

    #[test]
    fn a_due_event_that_nobody_claims_is_a_violation() {
        let story = Story::default().without(
            |op| matches!(Step::of(op), Some((step, at)) if step != Step::Accept || at.attempt > 0),
        );
        assert!(check(&Facts::of(&story.history())).is_invalid());
    }

    #[test]
    fn an_expired_lease_that_nobody_ends_is_a_violation() {
        let story = Story::default()
            .without(|op| matches!(Step::of(op), Some((_, at)) if at.attempt > 1))
            .without(|op| matches!(op, Op::Settle(_)));
        assert!(check(&Facts::of(&story.history())).is_invalid());
    }

    #[test]
    fn a_wait_while_something_is_wrong_is_none() {
        let story = Story::default()
            .without(|op| matches!(Step::of(op), Some((step, _)) if step != Step::Accept))
            .without(|op| matches!(op, Op::FaultEnd(_)))
            .edit(|t, op| {
                if op.source() == "fault" {
                    *t = 1;
                }
            });
        assert!(check(&Facts::of(&story.history())).is_valid());
    }

    #[test]
    fn calm_is_measured_between_storms() {
        assert_eq!(longest_calm(&[(10, 60), (20, 30)], 0, 100), 40);
        let storms = [(10, 20), (50, 60)];
        assert_eq!(longest_calm(&storms, 0, 100), 40);
        assert_eq!(longest_calm(&storms, 15, 55), 30);
        assert_eq!(longest_calm(&storms, 12, 18), 0);
        assert_eq!(longest_calm(&[], 5, 9), 4);
    }
}
