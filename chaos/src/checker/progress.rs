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

/// When something was wrong or just over, in order and merged.
fn storms(facts: &Facts<'_>) -> Vec<(u64, u64)> {
    let after = |end: u64| end.saturating_add(RECOVERY_SLACK_US);
    let mut storms: Vec<(u64, u64)> = facts
        .faults
        .iter()
        .map(|fault| (fault.start.t, fault.end_us.map_or(u64::MAX, after)))
        .collect();
    storms.sort_unstable();
    storms.dedup_by(|next, kept| {
        let merged = next.0 <= kept.1;
        if merged {
            kept.1 = kept.1.max(next.1);
        }
        merged
    });
    storms
}

fn longest_calm(storms: &[(u64, u64)], from: u64, to: u64) -> u64 {
    let (mut calm, mut longest) = (from, 0);
    for (begin, end) in storms.iter().filter(|(_, end)| *end >= from) {
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
    use crate::history::op::Op;

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
        let storms = [(10, 20), (50, 60)];
        assert_eq!(longest_calm(&storms, 0, 100), 40);
        assert_eq!(longest_calm(&storms, 15, 55), 30);
        assert_eq!(longest_calm(&storms, 12, 18), 0);
        assert_eq!(longest_calm(&[], 5, 9), 4);
    }
}
