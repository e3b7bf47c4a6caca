//! The checkers: pure functions of the history, three verdicts each, and how the verdicts merge.
//!
//! A checker does no IO and trusts no word of the dispatcher where a client or a receiver can tell.
//! Nothing seen is *unknown*, never a pass; each says how much it examined; each violation names the
//! lines of the history that prove it.

pub mod attempt_accounting;
pub mod attempts;
pub mod backoff;
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
pub mod recovery;
pub mod right_target;
pub mod settles_agree;
pub mod signature;
pub mod state_agrees;
pub mod terminal_is_final;
mod verdict;

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::{Deserialize, Serialize};

use crate::history::History;
use crate::history::facts::Facts;
use crate::history::transition::Step;

pub use verdict::{Examination, Verdict, WITNESSES_MAX, Witness};

/// What a broken invariant means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Something happened that must never happen.
    Safety,
    /// Something that must happen did not within its bound.
    Liveness,
    /// The run did not test what it set out to test.
    Coverage,
}

/// A checker, as the register lists it.
#[derive(Clone, Copy)]
pub struct Checker {
    /// Its name.
    pub name: &'static str,
    /// The invariant, in a sentence.
    pub invariant: &'static str,
    /// What breaking it means.
    pub kind: Kind,
    /// The function itself.
    pub check: fn(&Facts<'_>) -> Verdict,
}

/// Every checker, in the order of the report.
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
];

/// A checker that only some plans exercise, and how to tell.
pub type Exercised = (Checker, fn(&Facts<'_>) -> bool);

/// The checkers that are asked only where the plan exercises what they judge; the proof lists those
/// that were not.
pub const PLANNED_CHECKERS: &[Exercised] = &[
    (graceful_stop::CHECKER, |facts| !facts.exits.is_empty()),
    (recovery::CHECKER, recovery::is_exercised),
    (isolation::CHECKER, isolation::is_exercised),
    (errors_surfaced::CHECKER, |facts| !facts.logs.is_empty()),
    (indeterminate::CHECKER, |facts| {
        facts.events.values().any(indeterminate::is_asked)
    }),
];

/// What one checker said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The checker's name.
    pub checker: String,
    /// The invariant, in a sentence.
    pub invariant: String,
    /// What breaking it means.
    pub kind: Kind,
    /// What it said.
    #[serde(flatten)]
    pub verdict: Verdict,
}

impl Finding {
    /// What it found, in one line.
    #[must_use]
    pub fn told(&self) -> String {
        match &self.verdict {
            Verdict::Valid { examined, note } => format!("{examined} examined, {note}"),
            Verdict::Unknown { examined, why } => format!("{examined} examined, {why}"),
            Verdict::Invalid {
                examined,
                violations,
                witnesses,
            } => {
                let first = witnesses.first();
                let what = first.map_or("", |witness| &witness.what);
                let seqs = first.map_or(&[][..], |witness| &witness.seqs);
                format!("{violations} of {examined} broken; {what} (lines {seqs:?})")
            }
        }
    }
}

/// The checkers of what the store itself committed, in the order of the report.
pub const AUDIT_CHECKERS: &[Checker] = &[
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

/// The checkers of the simulation that look from outside: those of the real tier, but for the two that
/// judge the plan of a real run.
const SIM_CHECKERS: &[Checker] = &[
    no_loss::CHECKER,
    no_phantom::CHECKER,
    payload::CHECKER,
    right_target::CHECKER,
    signature::CHECKER,
    state_agrees::CHECKER,
    attempts::CHECKER,
    backoff::CHECKER,
    duplicates::CHECKER,
    idempotency::CHECKER,
    indeterminate::CHECKER,
    liveness::CHECKER,
];

/// Runs the checkers of the simulation.
#[must_use]
pub fn check_simulation(history: &History) -> Vec<Finding> {
    check_with(&[SIM_CHECKERS, AUDIT_CHECKERS].concat(), history)
}

/// Runs every checker; those of the store's own word only where it was written down.
#[must_use]
pub fn check_all(history: &History) -> Vec<Finding> {
    let audited = history
        .entries()
        .iter()
        .any(|entry| Step::of(&entry.op).is_some());
    let audit: &[Checker] = if audited { AUDIT_CHECKERS } else { &[] };
    let facts = Facts::of(history);
    let planned = PLANNED_CHECKERS.iter();
    let planned = planned.filter(|(_, is_exercised)| is_exercised(&facts));
    let planned: Vec<Checker> = planned.map(|(checker, _)| *checker).collect();
    check_with(&[CHECKERS, &planned, audit].concat(), history)
}

/// Runs these checkers. One that panics is unknown: it has not said anything.
fn check_with(checkers: &[Checker], history: &History) -> Vec<Finding> {
    let facts = Facts::of(history);
    checkers
        .iter()
        .map(|checker| run_one(checker, &facts))
        .collect()
}

fn run_one(checker: &Checker, facts: &Facts<'_>) -> Finding {
    let verdict = catch_unwind(AssertUnwindSafe(|| (checker.check)(facts))).unwrap_or_else(|_| {
        Verdict::Unknown {
            examined: 0,
            why: "the checker panicked".to_owned(),
        }
    });
    Finding {
        checker: checker.name.to_owned(),
        invariant: checker.invariant.to_owned(),
        kind: checker.kind,
        verdict,
    }
}

/// What a checker says of a history, in one line: the tests of the checkers compare it whole.
#[cfg(test)]
pub(crate) fn said(checker: &Checker, history: &History) -> String {
    let finding = run_one(checker, &Facts::of(history));
    format!("{}: {}", finding.verdict.word(), finding.told())
}

/// All findings in one word, with its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overall {
    /// Every checker says valid.
    Pass,
    /// A safety invariant is broken.
    Unsafe,
    /// A liveness invariant is broken, and no safety invariant is.
    Stuck,
    /// Nothing is broken, and something could not be told.
    Unknown,
}

impl Overall {
    /// Merges the findings: broken safety first, then liveness, then doubt.
    #[must_use]
    pub fn merge(findings: &[Finding]) -> Overall {
        let broken = |kind| {
            findings
                .iter()
                .any(|f| f.kind == kind && f.verdict.is_invalid())
        };
        if broken(Kind::Safety) {
            Overall::Unsafe
        } else if broken(Kind::Liveness) {
            Overall::Stuck
        } else if findings.is_empty() || !findings.iter().all(|f| f.verdict.is_valid()) {
            Overall::Unknown
        } else {
            Overall::Pass
        }
    }

    /// The exit code of a run that ends so.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Overall::Pass => 0,
            Overall::Unsafe => 1,
            Overall::Unknown => 2,
            Overall::Stuck => 3,
        }
    }

    /// The word of the last line.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Overall::Pass => "pass",
            Overall::Unsafe => "unsafe",
            Overall::Unknown => "unknown",
            Overall::Stuck => "stuck",
        }
    }
}

#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
pub(crate) mod story;

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(kind: Kind, verdict: Verdict) -> Finding {
        Finding {
            checker: "c".into(),
            invariant: "i".into(),
            kind,
            verdict,
        }
    }

    #[test]
    fn safety_outweighs_liveness_outweighs_doubt_and_doubt_is_no_pass() {
        let valid = || Verdict::Valid {
            examined: 1,
            note: String::new(),
        };
        let invalid = || Verdict::Invalid {
            examined: 1,
            violations: 1,
            witnesses: vec![],
        };
        let unknown = || Verdict::Unknown {
            examined: 0,
            why: String::new(),
        };
        let cases = [
            (vec![finding(Kind::Safety, valid())], 0),
            (
                vec![
                    finding(Kind::Liveness, invalid()),
                    finding(Kind::Safety, invalid()),
                ],
                1,
            ),
            (
                vec![
                    finding(Kind::Liveness, invalid()),
                    finding(Kind::Safety, unknown()),
                ],
                3,
            ),
            (
                vec![
                    finding(Kind::Coverage, unknown()),
                    finding(Kind::Safety, valid()),
                ],
                2,
            ),
            (vec![], 2),
        ];
        for (findings, code) in cases {
            assert_eq!(Overall::merge(&findings).exit_code(), code, "{findings:?}");
        }
    }

    #[test]
    fn each_end_has_its_word_and_its_exit_code() {
        let ends = [
            (Overall::Pass, "pass", 0),
            (Overall::Unsafe, "unsafe", 1),
            (Overall::Unknown, "unknown", 2),
            (Overall::Stuck, "stuck", 3),
        ];
        for (end, word, code) in ends {
            assert_eq!((end.word(), end.exit_code()), (word, code));
        }
    }

    fn names(findings: &[Finding]) -> Vec<&str> {
        findings.iter().map(|finding| &*finding.checker).collect()
    }

    fn names_of(checkers: &[Checker]) -> Vec<&'static str> {
        checkers.iter().map(|checker| checker.name).collect()
    }

    #[test]
    fn the_checkers_of_the_store_are_asked_where_it_told_anything() {
        // The sample has something to recover from.
        let outside = [names_of(CHECKERS), vec!["recovery"]].concat();
        let sample = sample::Sample::default().history();
        assert_eq!(names(&check_all(&sample)), outside);
        let story = story::Story::default().history();
        let all = [CHECKERS, AUDIT_CHECKERS].concat();
        assert_eq!(names(&check_all(&story)), names_of(&all));
        let simulated = [names_of(SIM_CHECKERS), names_of(AUDIT_CHECKERS)].concat();
        assert_eq!(names(&check_simulation(&story)), simulated);
    }

    #[test]
    fn a_planned_checker_is_asked_where_the_run_exercised_it() {
        use crate::history::op::*;
        let exit = Op::WorkerExit(WorkerExit {
            worker: "w0".into(),
            fault: 9,
            asked_us: 0,
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
        let open = Op::IngestInfo(NotAcknowledged {
            op: 9,
            ordinal: 9,
            status: None,
            why: String::new(),
        });
        let asked = |op: Op| {
            let history = sample::Sample::default().with(0, op).history();
            let findings = check_all(&history);
            names(&findings)[CHECKERS.len()..].join(" ")
        };
        assert_eq!(asked(exit), "graceful_stop recovery");
        assert_eq!(asked(log), "recovery errors_surfaced");
        assert_eq!(asked(open), "recovery indeterminate");
    }

    #[test]
    fn a_checker_that_panics_says_unknown() {
        let checker = Checker {
            name: "bad",
            invariant: "",
            kind: Kind::Safety,
            check: |_| panic!("as a test"),
        };
        let finding = run_one(&checker, &Facts::default());
        assert_eq!(finding.verdict.word(), "unknown");
    }

    #[test]
    fn an_empty_history_is_unknown_to_every_checker() {
        for checker in CHECKERS.iter().chain(AUDIT_CHECKERS) {
            let verdict = (checker.check)(&Facts::default());
            assert_eq!(verdict.word(), "unknown", "{}", checker.name);
        }
    }

    #[test]
    fn a_whole_and_honest_history_is_valid_to_every_checker() {
        for finding in check_all(&sample::Sample::default().history()) {
            assert!(
                finding.verdict.is_valid(),
                "{}: {:?}",
                finding.checker,
                finding.verdict
            );
        }
    }

    #[test]
    fn an_honest_story_of_the_store_is_valid_to_every_checker_of_it() {
        for finding in check_with(AUDIT_CHECKERS, &story::Story::default().history()) {
            let verdict = &finding.verdict;
            assert!(verdict.is_valid(), "{}: {verdict:?}", finding.checker);
        }
    }
}
