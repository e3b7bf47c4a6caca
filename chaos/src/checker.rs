//! Checkers: pure functions of the history with three verdicts each, in one list.
//!
//! A checker does no IO and prefers observations of clients and receivers to those of the
//! dispatcher. A checker that examined nothing is unknown. Each violation lists the lines that
//! prove it.

pub mod attempt_accounting;
pub mod attempts;
pub mod attempts_explained;
pub mod availability;
pub mod backoff;
pub mod clock_reported;
pub mod clock_safety;
pub mod conservation;
pub mod coverage;
pub mod dead_letters;
pub mod dead_when_earned;
pub mod due_times;
pub mod duplicates;
pub mod errors_surfaced;
pub mod fencing;
pub mod graceful_stop;
pub mod idempotency;
pub mod indeterminate;
pub mod isolation;
pub mod lease_exclusion;
pub mod liveness;
pub mod no_loss;
pub mod no_phantom;
pub mod payload;
pub mod progress;
pub mod readiness;
pub mod recovery;
pub mod resources;
pub mod right_target;
pub mod served;
pub mod settles_agree;
pub mod signature;
pub mod state_agrees;
pub mod terminal_is_final;

mod declaration;
mod finding;
mod verdict;

use crate::history::History;
use crate::history::facts::Facts;

pub use declaration::{Checker, Need, NotAsked, Property, Tier, When};
pub use finding::{Finding, Overall};
pub use verdict::{Examination, Verdict, WITNESSES_MAX, Witness};

/// Every checker, in the order of the report: judged from outside, then from the audit.
pub const CHECKERS: &[Checker] = &[
    no_loss::CHECKER,
    no_phantom::CHECKER,
    payload::CHECKER,
    right_target::CHECKER,
    signature::CHECKER,
    state_agrees::CHECKER,
    attempts::CHECKER,
    backoff::CHECKER,
    dead_letters::CHECKER,
    duplicates::CHECKER,
    idempotency::CHECKER,
    liveness::CHECKER,
    coverage::CHECKER,
    graceful_stop::CHECKER,
    recovery::CHECKER,
    isolation::CHECKER,
    availability::CHECKER,
    served::CHECKER,
    errors_surfaced::CHECKER,
    indeterminate::CHECKER,
    readiness::CHECKER,
    resources::CHECKER,
    clock_reported::CHECKER,
    attempts_explained::CHECKER,
    terminal_is_final::CHECKER,
    attempt_accounting::CHECKER,
    dead_when_earned::CHECKER,
    due_times::CHECKER,
    lease_exclusion::CHECKER,
    fencing::CHECKER,
    clock_safety::CHECKER,
    settles_agree::CHECKER,
    conservation::CHECKER,
    progress::CHECKER,
];

/// Judges a history of a tier by every checker that is meant for it, exercised by it, and whose
/// needs it meets.
pub fn judge(history: &History, tier: Tier) -> Vec<Finding> {
    let facts = Facts::of(history);
    let checkers = CHECKERS.iter().filter(|checker| checker.when.is_for(tier));
    let asked = checkers.filter(|checker| checker.not_asked(&facts).is_none());
    asked.map(|checker| Finding::of(checker, &facts)).collect()
}

/// Returns the checkers that do not judge this history of the real tier. The proof lists them.
pub fn not_asked(facts: &Facts<'_>) -> Vec<NotAsked> {
    let checkers = CHECKERS.iter();
    checkers.filter_map(|checker| checker.not_asked(facts)).collect()
}

/// Returns the verdict of a checker in one line, which the tests of the checkers compare.
#[cfg(test)]
pub(crate) fn verdict_line(checker: &Checker, history: &History) -> String {
    let finding = Finding::of(checker, &Facts::of(history));
    format!("{}: {}", finding.verdict.word(), finding.summary())
}

#[cfg(test)]
pub(crate) mod story;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::history::op::{NotAcknowledged, Op, WorkerExit, WorkerLog};
    use story::Story;

    fn names(findings: &[Finding]) -> Vec<&str> {
        findings.iter().map(|finding| &*finding.checker).collect()
    }

    /// The names of the checkers with this need, in the order of the list.
    fn with_need(need: Need) -> Vec<&'static str> {
        let checkers = CHECKERS.iter();
        let with_need = checkers.filter(|checker| checker.needs.contains(&need));
        with_need.map(|checker| checker.name).collect()
    }

    /// The checkers that judge every run of real processes, with or without an audit.
    const ALWAYS: [&str; 14] = [
        "no_loss",
        "no_phantom",
        "payload",
        "right_target",
        "signature",
        "state_agrees",
        "attempts",
        "backoff",
        "dead_letters",
        "duplicates",
        "idempotency",
        "liveness",
        "coverage",
        "attempts_explained",
    ];

    #[test]
    fn names_of_checkers_are_unique() {
        let names: BTreeSet<&str> = CHECKERS.iter().map(|checker| checker.name).collect();
        assert_eq!(names.len(), CHECKERS.len());
    }

    #[test]
    fn ten_checkers_need_the_audit_and_judge_only_with_it() {
        let audit = with_need(Need::Audit);
        assert_eq!(audit.len(), 10);
        let story = Story::of_one_event().history();
        let asked = judge(&story, Tier::Real);
        assert_eq!(names(&asked), [&ALWAYS[..], &audit].concat());
        let unaudited = judge(&Story::of_four_events().history(), Tier::Real);
        assert!(!names(&unaudited).iter().any(|name| audit.contains(name)));
    }

    #[test]
    fn simulation_is_not_judged_by_the_plan_of_a_real_run() {
        let story = Story::of_one_event().history();
        let of_plan = ["dead_letters", "coverage"];
        let outside = ALWAYS.iter().filter(|name| !of_plan.contains(name));
        let expected: Vec<&str> = outside.copied().chain(with_need(Need::Audit)).collect();
        assert_eq!(names(&judge(&story, Tier::Simulation)), expected);
    }

    #[test]
    fn conditional_checker_judges_a_run_that_exercises_it() {
        let exit = Op::WorkerExit(WorkerExit {
            worker: "w0".into(),
            fault: 9,
            asked_us: 0,
            ended_us: 0,
            code: Some(0),
            signal: None,
            forced: false,
        });
        let log = Op::WorkerLog(WorkerLog {
            worker: "w0".into(),
            lines: 1,
            panics: vec![],
            errors: vec![],
        });
        let open =
            Op::IngestInfo(NotAcknowledged { op: 9, ordinal: 9, status: None, why: String::new() });
        let asked = |op: Option<Op>| {
            let story = Story::of_four_events();
            let story = match op {
                Some(op) => story.with(0, op),
                None => story,
            };
            let history = story.history();
            let findings = judge(&history, Tier::Real);
            let names = names(&findings);
            let conditional = names.iter().filter(|name| !ALWAYS.contains(name));
            let asked = conditional.copied().collect::<Vec<&str>>().join(" ");
            // A checker judges, or the proof lists the reason why it does not.
            let facts = Facts::of(&history);
            assert_eq!(names.len() + not_asked(&facts).len(), CHECKERS.len());
            asked
        };
        // The history has a fault, after which events are delivered.
        assert_eq!(asked(None), "recovery");
        assert_eq!(asked(Some(exit)), "graceful_stop recovery");
        assert_eq!(asked(Some(log)), "recovery errors_surfaced");
        assert_eq!(asked(Some(open)), "recovery indeterminate");
    }

    #[test]
    fn checker_that_is_not_asked_names_its_missing_need() {
        let history = Story::of_four_events().history();
        let facts = Facts::of(&history);
        let not_asked = not_asked(&facts);
        let missing = |name: &str| {
            let mut not_asked = not_asked.iter();
            not_asked.find(|n| n.checker == name).map(|n| n.missing)
        };
        assert_eq!(missing("fencing"), Some(Some(Need::Audit)));
        assert_eq!(missing("graceful_stop"), Some(None));
        assert_eq!(missing("no_loss"), None);
    }

    #[test]
    fn empty_history_is_unknown_to_every_checker() {
        for checker in CHECKERS {
            let verdict = (checker.check)(&Facts::default());
            assert_eq!(verdict.word(), "unknown", "{}", checker.name);
        }
    }

    #[test]
    fn honest_history_is_valid_to_every_checker() {
        for finding in judge(&Story::of_four_events().history(), Tier::Real) {
            let verdict = &finding.verdict;
            assert!(verdict.is_valid(), "{}: {verdict:?}", finding.checker);
        }
    }

    #[test]
    fn honest_audit_is_valid_to_every_checker_that_needs_it() {
        let audit = with_need(Need::Audit);
        let findings = judge(&Story::of_one_event().history(), Tier::Real);
        for finding in findings.iter().filter(|f| audit.contains(&&*f.checker)) {
            let verdict = &finding.verdict;
            assert!(verdict.is_valid(), "{}: {verdict:?}", finding.checker);
        }
    }
}
