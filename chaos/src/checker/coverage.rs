//! The run tested its plan: kills that hit open requests, failures, hangs, gaps at default
//! settings.
//!
//! The verdict is never invalid. It is unknown if a pass would prove too little.

use super::declaration::{Checker, Property, When};
use super::verdict::{Examination, Verdict};
use crate::fault::Kills;
use crate::history::facts::Facts;
use crate::history::op::Section;

/// The declaration of this checker.
pub const CHECKER: Checker = Checker {
    name: "coverage",
    invariant: "every planned kind of fault took an observed effect",
    property: Property::Coverage,
    when: When::REAL,
    needs: &[],
    check,
};

/// Number of gaps that an event of the default section must show.
const DEFAULT_GAPS: usize = 3;

fn check(facts: &Facts<'_>) -> Verdict {
    let mut examination = Examination::default();
    let Some(start) = facts.start else {
        return Verdict::Unknown { examined: 0, why: "the run has no start".into() };
    };
    for reached in &facts.bounds_reached {
        examination.doubt(reached.op.unfinished.clone());
    }
    let (mut failures, mut hangs) = (0_u64, 0_u64);
    for receipt in facts.receipts() {
        examination.saw_one();
        let hung = receipt.begin.op.scripted.as_ref().is_some_and(|s| s.what.starts_with("hang"));
        hangs += u64::from(hung && receipt.end.is_some());
        failures += u64::from(receipt.end.is_some() && !receipt.is_success());
    }
    let kills = facts.faults.iter().filter(|fault| fault.is_counted_kill()).count();
    if kills < start.kills_required as usize {
        let required = start.kills_required;
        examination.doubt(format!("{kills} kills hit an open request, {required} are required"));
    }
    // The profile states the number of kills that must hit.
    let others = start.faults_planned.iter();
    for (kind, planned) in others.filter(|(_, planned)| planned.harm.kills != Kills::WorkerOnce) {
        if is_uncovered(facts, kind, planned.count) {
            examination.doubt(format!("{kind} is planned, and none took an observed effect"));
        }
    }
    if start.failures_planned && failures == 0 {
        examination.doubt("failures are planned, and none was observed".into());
    }
    if start.hangs_planned && hangs == 0 {
        examination.doubt("hangs are planned, and none was observed".into());
    }
    let shows = facts.accepted().any(|(_, event)| {
        event.section() == Section::Defaults && event.receipts.len() > DEFAULT_GAPS
    });
    if start.sections.contains_key(&Section::Defaults) && !shows {
        examination.doubt("no event at default settings shows three gaps".into());
    }
    let note = format!("{kills} kills in flight, {failures} failures, {hangs} of them hangs");
    examination.verdict("no request was received", note)
}

/// Returns true if no fault of a kind was effective, unless all were skipped, which the proof
/// lists.
fn is_uncovered(facts: &Facts<'_>, kind: &str, planned: u32) -> bool {
    let of_kind = |name: &str| name == kind;
    let skipped = facts.skipped.iter().filter(|(name, _)| of_kind(name));
    let mut faults = facts.faults.iter();
    let effective = faults.any(|fault| of_kind(fault.name()) && fault.is_effective());
    !effective && skipped.count() < planned as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::story::Story;
    use crate::checker::story::ops::planned;
    use crate::checker::verdict_line;
    use crate::history::op::{BoundReached, FaultSkip, Op, Phase, PhaseBegin};
    use crate::nemesis::PauseWorker;

    fn without(drop: impl Fn(&Op) -> bool) -> &'static str {
        check(&Facts::of(&Story::of_four_events().without(drop).history())).word()
    }

    fn judged(story: Story) -> String {
        verdict_line(&CHECKER, &story.history())
    }

    fn kills_required(kills: u32) -> Story {
        Story::of_four_events().edit(move |_, op| {
            if let Op::RunStart(start) = op {
                start.kills_required = kills;
            }
        })
    }

    #[test]
    fn kill_that_hit_no_request_does_not_count() {
        assert_eq!(without(|op| matches!(op, Op::FaultEffect(_))), "unknown");
    }

    #[test]
    fn required_number_of_kills_is_enough() {
        assert_eq!(
            judged(kills_required(1)),
            "valid: 10 examined, 1 kills in flight, 6 failures, 1 of them hangs"
        );
        assert_eq!(
            judged(kills_required(2)),
            "unknown: 10 examined, 1 kills hit an open request, 2 are required"
        );
        assert!(judged(kills_required(0)).starts_with("valid"));
    }

    #[test]
    fn unplanned_failures_and_hangs_are_not_required() {
        let without_failures = Story::of_four_events().edit(|_, op| match op {
            Op::RunStart(start) => {
                (start.failures_planned, start.hangs_planned) = (false, false);
                start.sections.remove(&Section::Defaults);
            }
            Op::RecvEnd(end) => end.status = Some(200),
            Op::RecvBegin(begin) => {
                if let Some(scripted) = &mut begin.scripted {
                    scripted.what = "answer".into();
                }
            }
            _ => {}
        });
        assert_eq!(
            judged(without_failures),
            "valid: 10 examined, 1 kills in flight, 0 failures, 0 of them hangs"
        );
    }

    #[test]
    fn planned_failures_without_observation_are_unknown() {
        let answered = Story::of_four_events().edit(|_, op| {
            if let Op::RecvEnd(end) = op {
                end.status = Some(200);
            }
        });
        assert!(judged(answered).ends_with("failures are planned, and none was observed"));
    }

    #[test]
    fn kind_without_effect_is_unknown_and_skipped_kind_is_not() {
        let word = |skipped: bool| {
            let story = Story::of_four_events().edit(|_, op| match op {
                Op::RunStart(start) => {
                    start.faults_planned.extend([planned(PauseWorker::KIND)]);
                }
                Op::Phase(PhaseBegin { phase, .. }) if skipped && *phase == Phase::Drain => {
                    let (f, why) = (PauseWorker::KIND.name.into(), "as a test".into());
                    *op = Op::FaultSkip(FaultSkip { f, why });
                }
                _ => {}
            });
            check(&Facts::of(&story.history())).word()
        };
        assert_eq!((word(false), word(true)), ("unknown", "valid"));
    }

    // A run against a dispatcher that accepts nothing once waited for hours.
    #[test]
    fn run_that_reached_a_bound_is_unknown_and_names_the_bound_first() {
        let reached = Op::BoundReached(BoundReached {
            bound_us: 1,
            unfinished: "posting did not end".into(),
        });
        let cut = kills_required(9).with(1, reached);
        assert_eq!(judged(cut), "unknown: 10 examined, posting did not end");
    }

    #[test]
    fn planned_hangs_without_observation_are_unknown() {
        let hang = |op: &Op| matches!(op, Op::RecvEnd(end) if end.how.starts_with("hung"));
        assert_eq!(without(hang), "unknown");
    }

    #[test]
    fn run_without_gaps_at_default_settings_is_unknown() {
        let last = |op: &Op| matches!(op, Op::RecvBegin(b) if b.req.starts_with("r3-4-"));
        assert_eq!(without(last), "unknown");
    }
}
