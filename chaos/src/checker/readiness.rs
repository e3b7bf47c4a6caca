//! `/readyz` fails while the database is denied to a worker, and recovers after the fault.
//!
//! Two demands. From `FAILS_WITHIN_US` after a fault denied the database until its heal begins,
//! the worker does not report that it is ready. A shorter denial demands nothing. And a worker that
//! is not ready becomes ready within `RECOVERS_WITHIN_US` of the last fault that may cause this.
//! The harness polls each worker directly, and the history has the changes of the response. No
//! response is the same as a refusal. The bounds are generous, because a busy machine delays polls.

use super::declaration::{Checker, Property, When};
use super::verdict::{Examination, Verdict};
use crate::history::facts::{At, Facts, FaultFacts};
use crate::history::op::{Phase, Readiness};

/// The declaration of this checker.
pub const CHECKER: Checker = Checker {
    name: "readiness",
    invariant: "`/readyz` fails while the database is denied, and recovers after each fault",
    property: Property::Liveness,
    when: When::real_if("`/readyz` had to change", is_exercised),
    needs: &[],
    check,
};

/// Maximum time from the effect of a denial until `/readyz` fails, in microseconds. A statement, a
/// probe and the pause before it take at most 5 s together.
const FAILS_WITHIN_US: u64 = 10_000_000;
/// Maximum time from the end of a fault until `/readyz` recovers, in microseconds. Postgres may
/// need several seconds for its recovery.
const RECOVERS_WITHIN_US: u64 = 15_000_000;

/// The responses of one worker, each until the next one.
type Responses<'f, 'h> = &'f [At<'h, Readiness>];

/// One demand that the history decides.
struct Demand {
    /// True if `/readyz` had to fail, false if it had to recover.
    is_denial: bool,
    /// The violation and the lines that prove it.
    broken: Option<(String, Vec<u64>)>,
}

fn is_exercised(facts: &Facts<'_>) -> bool {
    !demands(facts).is_empty()
}

fn check(facts: &Facts<'_>) -> Verdict {
    let mut examination = Examination::default();
    let demands = demands(facts);
    let denials = demands.iter().filter(|demand| demand.is_denial).count();
    let note = format!(
        "{denials} times the database was denied for {} s, {} times a worker had to recover",
        FAILS_WITHIN_US / 1_000_000,
        demands.len() - denials
    );
    for demand in demands {
        examination.saw_one();
        if let Some((what, seqs)) = demand.broken {
            examination.broken(what, seqs);
        }
    }
    examination.verdict("`/readyz` did not have to change", note)
}

fn demands(facts: &Facts<'_>) -> Vec<Demand> {
    let of_worker = |(worker, responses): (&&str, &Vec<_>)| {
        let mut demands = failures(facts, worker, responses);
        demands.extend(recoveries(facts, worker, responses));
        demands
    };
    facts.readiness.iter().flat_map(of_worker).collect()
}

/// The denials of this worker's database that lasted longer than the bound.
fn failures(facts: &Facts<'_>, worker: &str, responses: Responses<'_, '_>) -> Vec<Demand> {
    let demand = |fault: &FaultFacts<'_>| {
        let denied = fault.denial(worker)?;
        let from_us = denied.start + FAILS_WITHIN_US;
        let first = responses.partition_point(|at| at.t <= from_us).checked_sub(1)?;
        if from_us > denied.end {
            return None;
        }
        let mut during = responses[first..].iter().take_while(|at| at.t <= denied.end);
        let ready = during.find(|at| at.op.is_ready());
        let broken = ready.map(|ready| {
            let ms = (denied.end - denied.start) / 1_000;
            let what = format!(
                "{worker} was ready while {} denied its database for {ms} ms",
                fault.name()
            );
            let effect = fault.effect.map(|effect| effect.seq);
            (what, [fault.start.seq].into_iter().chain(effect).chain([ready.seq]).collect())
        });
        Some(Demand { is_denial: true, broken })
    };
    facts.faults.iter().filter_map(demand).collect()
}

/// The times in which this worker was not ready and that ended, or had to end before the final
/// reads.
fn recoveries(facts: &Facts<'_>, worker: &str, responses: Responses<'_, '_>) -> Vec<Demand> {
    let last_us = facts.phases.get(&Phase::FinalReads).map_or(0, |(begin_us, _)| *begin_us);
    let mut demands = Vec::new();
    let mut since: Option<&At<'_, Readiness>> = None;
    for response in responses {
        match since {
            None if !response.op.is_ready() => since = Some(response),
            Some(failed) if response.op.is_ready() => {
                let until_us = response.t;
                let unready = Unready { failed, until_us, recovered: Some(response.seq) };
                demands.push(unready.demand(facts, worker));
                since = None;
            }
            _ => {}
        }
    }
    if let Some(failed) = since.filter(|failed| last_us > deadline_us(facts, failed.t)) {
        let unready = Unready { failed, until_us: last_us, recovered: None };
        demands.push(unready.demand(facts, worker));
    }
    demands
}

/// A time in which a worker was not ready.
struct Unready<'a, 'h> {
    /// The first response that is not 200.
    failed: &'a At<'h, Readiness>,
    /// The end, or the end of the run, in microseconds.
    until_us: u64,
    /// The line of the next 200.
    recovered: Option<u64>,
}

impl Unready<'_, '_> {
    fn demand(&self, facts: &Facts<'_>, worker: &str) -> Demand {
        let deadline_us = deadline_us(facts, self.failed.t);
        let broken = (self.until_us > deadline_us).then(|| {
            let late_ms = (self.until_us - deadline_us + RECOVERS_WITHIN_US) / 1_000;
            let what = format!("{worker} was not ready for {late_ms} ms that no fault explains");
            (what, [self.failed.seq].into_iter().chain(self.recovered).collect())
        });
        Demand { is_denial: false, broken }
    }
}

/// The time by which a worker that is not ready since `from_us` must be ready.
fn deadline_us(facts: &Facts<'_>, from_us: u64) -> u64 {
    let mut deadline_us = from_us.saturating_add(RECOVERS_WITHIN_US);
    let causes = facts.faults.iter().filter(|fault| fault.may_end_readiness());
    for fault in causes.filter(|fault| fault.overlaps(from_us, u64::MAX, 0)) {
        if fault.start.t <= deadline_us {
            let healed_us = fault.end_us.unwrap_or(u64::MAX);
            deadline_us = deadline_us.max(healed_us.saturating_add(RECOVERS_WITHIN_US));
        }
    }
    deadline_us
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::story::ops::{links, phase};
    use crate::checker::story::{SECOND, Story};
    use crate::checker::verdict_line;
    use crate::fault::{Kind, Target};
    use crate::history::op::{FaultEffect, FaultEnd, FaultStart, Op};
    use crate::nemesis::{BlackHole, HangReceiver, PausePostgres, StopPostgres};

    /// Seconds of the effect, and of the end of the denial, which is healed 2 s later.
    const DENIED: u64 = 2;
    const HEALED: u64 = 2;

    fn answered(story: Story, worker: &str, s: u64, status: Option<u16>) -> Story {
        story.with(s * SECOND, Op::Readiness(Readiness { worker: worker.into(), status }))
    }

    /// A run of 60 s in which a fault has an effect from second 2 until this second. Worker 0 is
    /// ready, and then has these responses.
    fn denied_until(
        end: u64,
        (kind, target): (Kind, Target),
        later: &[(u64, Option<u16>)],
    ) -> Story {
        let effect = FaultEffect {
            fault: 7,
            effective_us: DENIED * SECOND,
            hit: vec![],
            observed: Some("seen".into()),
        };
        let story = Story::accepted()
            .without(|op| matches!(op, Op::Phase(_)))
            .with(SECOND, Op::FaultStart(FaultStart::new(7, &kind, target)))
            .with(end * SECOND, Op::FaultEffect(effect))
            .with((end + HEALED) * SECOND, Op::FaultEnd(FaultEnd { fault: 7 }))
            .with(60 * SECOND, phase(Phase::FinalReads));
        let story = answered(story, "w0", 0, Some(200));
        later.iter().fold(story, |story, (s, status)| answered(story, "w0", *s, *status))
    }

    fn judged(story: Story) -> String {
        verdict_line(&CHECKER, &story.history())
    }

    fn stopped() -> (Kind, Target) {
        (StopPostgres::KIND, Target::Postgres)
    }

    #[test]
    fn refusal_within_the_bound_and_recovery_are_valid() {
        for refusal in [Some(503), None] {
            let story = denied_until(14, stopped(), &[(12, refusal), (31, Some(200))]);
            assert_eq!(
                judged(story),
                "valid: 2 examined, 1 times the database was denied for 10 s, 1 times a worker \
                 had to recover"
            );
        }
    }

    #[test]
    fn ready_during_a_denial_is_invalid() {
        for later in [&[][..], &[(13, Some(503)), (20, Some(200))], &[(3, None), (5, Some(200))]] {
            let story = denied_until(14, stopped(), later);
            let line = judged(story);
            let what =
                "w0 was ready while postgres.immediate_stop denied its database for 12000 ms";
            assert!(line.starts_with("INVALID") && line.contains(what), "{line}");
        }
    }

    #[test]
    fn short_denial_and_another_worker_demand_nothing() {
        let unknown = "unknown: 0 examined, `/readyz` did not have to change";
        assert_eq!(judged(denied_until(11, stopped(), &[])), unknown);
        let other_link = (BlackHole::KIND, links("w1->pg+client->w0"));
        assert_eq!(judged(denied_until(14, other_link, &[])), unknown);
        let own_link = (BlackHole::KIND, links("w0->pg"));
        assert!(judged(denied_until(14, own_link, &[])).starts_with("INVALID"));
    }

    #[test]
    fn paused_postmaster_denies_nothing() {
        let paused = |target| judged(denied_until(14, (PausePostgres::KIND, target), &[]));
        assert!(paused(Target::Postgres).starts_with("INVALID"));
        assert!(paused(Target::Postmaster).starts_with("unknown"));
    }

    #[test]
    fn fault_without_an_effect_demands_nothing() {
        let story = denied_until(14, stopped(), &[]).edit(|_, op| {
            if let Op::FaultEffect(effect) = op {
                effect.observed = None;
            }
        });
        assert!(judged(story).starts_with("unknown"));
    }

    #[test]
    fn worker_that_stays_not_ready_after_the_heal_is_invalid() {
        let line = judged(denied_until(14, stopped(), &[(3, Some(503)), (32, Some(200))]));
        assert!(line.contains("w0 was not ready for 16000 ms that no fault explains"), "{line}");
        let line = judged(denied_until(14, stopped(), &[(3, Some(503)), (4, None)]));
        assert!(line.contains("w0 was not ready for 44000 ms that no fault explains"), "{line}");
    }

    #[test]
    fn end_of_the_run_before_the_deadline_demands_no_recovery() {
        let at_45 = |story: Story| {
            story.edit(|t, op| {
                if matches!(op, Op::Phase(_)) {
                    *t = 45 * SECOND;
                }
            })
        };
        let story = denied_until(30, stopped(), &[(3, Some(503))]);
        assert!(judged(at_45(story)).contains("0 times a worker had to recover"));
    }

    #[test]
    fn hang_of_a_receiver_does_not_explain_a_refusal() {
        let line = |s| {
            let hang = (HangReceiver::KIND, Target::Receiver(0));
            judged(denied_until(14, hang, &[(4, Some(503)), (s, Some(200))]))
        };
        assert!(line(20).starts_with("INVALID"), "{}", line(20));
        assert!(line(19).starts_with("valid"), "{}", line(19));
    }

    #[test]
    fn history_without_polls_does_not_exercise_the_checker() {
        assert!(!is_exercised(&Facts::of(&Story::of_four_events().history())));
        let polled = denied_until(14, stopped(), &[]).history();
        assert!(is_exercised(&Facts::of(&polled)));
    }
}
