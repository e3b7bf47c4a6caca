//! Findings: the verdict of each checker on one history, and the merged verdict of the run.

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::{Deserialize, Serialize};

use super::declaration::{Checker, Property};
use super::verdict::Verdict;
use crate::history::facts::Facts;

/// The verdict of one checker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Name of the checker.
    pub checker: String,
    /// The invariant in one sentence.
    pub invariant: String,
    /// The kind of property that the invariant is.
    #[serde(rename = "kind")]
    pub property: Property,
    /// The verdict.
    #[serde(flatten)]
    pub verdict: Verdict,
}

impl Finding {
    /// Runs a checker. A checker that panics has not judged, so its verdict is unknown.
    pub(super) fn of(checker: &Checker, facts: &Facts<'_>) -> Self {
        let judged = catch_unwind(AssertUnwindSafe(|| (checker.check)(facts)));
        let verdict = judged.unwrap_or_else(|_| Verdict::Unknown {
            examined: 0,
            why: "the checker panicked".to_owned(),
        });
        Self {
            checker: checker.name.to_owned(),
            invariant: checker.invariant.to_owned(),
            property: checker.property,
            verdict,
        }
    }

    /// Returns the verdict in one line, without its word.
    pub fn summary(&self) -> String {
        match &self.verdict {
            Verdict::Valid { examined, note } => format!("{examined} examined, {note}"),
            Verdict::Unknown { examined, why } => format!("{examined} examined, {why}"),
            Verdict::Invalid { examined, violations, witnesses } => {
                let first = witnesses.first();
                let text = first.map_or("", |witness| &witness.what);
                let seqs = first.map_or(&[][..], |witness| &witness.seqs);
                format!("{violations} of {examined} broken; {text} (lines {seqs:?})")
            }
        }
    }
}

/// The merged verdict of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overall {
    /// Every verdict is valid.
    Pass,
    /// A safety invariant is violated.
    Unsafe,
    /// A liveness invariant is violated, and no safety invariant is.
    Stuck,
    /// Nothing is violated, and at least one verdict is unknown.
    Unknown,
}

impl Overall {
    /// Merges the findings: violated safety first, then liveness, then unknown.
    pub fn merge(findings: &[Finding]) -> Self {
        let is_violated = |property| {
            let mut findings = findings.iter();
            findings.any(|f| f.property == property && f.verdict.is_invalid())
        };
        if is_violated(Property::Safety) {
            Self::Unsafe
        } else if is_violated(Property::Liveness) {
            Self::Stuck
        } else if findings.is_empty() || !findings.iter().all(|f| f.verdict.is_valid()) {
            Self::Unknown
        } else {
            Self::Pass
        }
    }

    /// Returns the exit code of the run.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Pass => 0,
            Self::Unsafe => 1,
            Self::Unknown => 2,
            Self::Stuck => 3,
        }
    }

    /// Returns the word after `verdict=` in the last line of a run.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Unsafe => "unsafe",
            Self::Unknown => "unknown",
            Self::Stuck => "stuck",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::declaration::When;

    fn finding(property: Property, verdict: Verdict) -> Finding {
        Finding { checker: "c".into(), invariant: "i".into(), property, verdict }
    }

    #[test]
    fn safety_outweighs_liveness_and_both_outweigh_unknown() {
        let valid = || Verdict::Valid { examined: 1, note: String::new() };
        let invalid = || Verdict::Invalid { examined: 1, violations: 1, witnesses: vec![] };
        let unknown = || Verdict::Unknown { examined: 0, why: String::new() };
        let cases = [
            (vec![finding(Property::Safety, valid())], 0),
            (vec![finding(Property::Liveness, invalid()), finding(Property::Safety, invalid())], 1),
            (vec![finding(Property::Liveness, invalid()), finding(Property::Safety, unknown())], 3),
            (vec![finding(Property::Coverage, unknown()), finding(Property::Safety, valid())], 2),
            (vec![], 2),
        ];
        for (findings, code) in cases {
            assert_eq!(Overall::merge(&findings).exit_code(), code, "{findings:?}");
        }
    }

    #[test]
    fn each_merged_verdict_has_a_word_and_an_exit_code() {
        let verdicts = [
            (Overall::Pass, "pass", 0),
            (Overall::Unsafe, "unsafe", 1),
            (Overall::Unknown, "unknown", 2),
            (Overall::Stuck, "stuck", 3),
        ];
        for (overall, word, code) in verdicts {
            assert_eq!((overall.word(), overall.exit_code()), (word, code));
        }
    }

    #[test]
    fn checker_that_panics_is_unknown() {
        let checker = Checker {
            name: "bad",
            invariant: "",
            property: Property::Safety,
            when: When::ALWAYS,
            needs: &[],
            check: |_| panic!("as a test"),
        };
        let finding = Finding::of(&checker, &Facts::default());
        assert_eq!(finding.verdict.word(), "unknown");
    }
}
