//! The verdict of a checker: valid, invalid with witnesses, or unknown; and the rule that forms it.

use serde::{Deserialize, Serialize};

/// Maximum number of witnesses in a verdict. The verdict also states the number of violations.
pub const WITNESSES_MAX: usize = 5;

/// The verdict of a checker on a history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// Everything that was examined satisfies the invariant.
    Valid {
        /// Number of examined events, requests, attempts or transitions.
        examined: u64,
        /// Figures for the report.
        note: String,
    },
    /// The invariant is violated.
    Invalid {
        /// Number of examined events, requests, attempts or transitions.
        examined: u64,
        /// Number of violations.
        violations: u64,
        /// The first violations.
        witnesses: Vec<Witness>,
    },
    /// The history does not decide.
    Unknown {
        /// Number of examined events, requests, attempts or transitions.
        examined: u64,
        /// The reason.
        why: String,
    },
}

/// One violation with the lines of the history that prove it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Witness {
    /// The violation in one clause.
    pub what: String,
    /// The `seq` of each line that proves it.
    pub seqs: Vec<u64>,
}

impl Witness {
    /// A violation and the lines that prove it.
    pub fn new(what: String, seqs: impl IntoIterator<Item = u64>) -> Self {
        Self { what, seqs: seqs.into_iter().collect() }
    }
}

impl Verdict {
    /// Returns true if the invariant is violated.
    pub const fn is_invalid(&self) -> bool {
        matches!(self, Self::Invalid { .. })
    }

    /// Returns true if the invariant is satisfied.
    pub const fn is_valid(&self) -> bool {
        matches!(self, Self::Valid { .. })
    }

    /// Returns `valid`, `INVALID` or `unknown`.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Valid { .. } => "valid",
            Self::Invalid { .. } => "INVALID",
            Self::Unknown { .. } => "unknown",
        }
    }

    /// Returns the number of examined events, requests, attempts or transitions.
    pub const fn examined(&self) -> u64 {
        match self {
            Self::Valid { examined, .. }
            | Self::Invalid { examined, .. }
            | Self::Unknown { examined, .. } => *examined,
        }
    }
}

/// Collects the violations and doubts of one checker.
#[derive(Debug, Default)]
pub struct Examination {
    examined: u64,
    violations: u64,
    witnesses: Vec<Witness>,
    doubt: Option<String>,
}

impl Examination {
    /// Counts one examined event, request, attempt or transition.
    pub fn saw_one(&mut self) {
        self.examined += 1;
    }

    /// Adds a violation.
    pub fn broken(&mut self, what: String, seqs: impl IntoIterator<Item = u64>) {
        self.violations += 1;
        if self.witnesses.len() < WITNESSES_MAX {
            self.witnesses.push(Witness::new(what, seqs));
        }
    }

    /// Adds a reason why the history does not decide. Violations outweigh it.
    pub fn doubt(&mut self, why: String) {
        self.doubt.get_or_insert(why);
    }

    /// Forms the verdict: violations before doubts. If nothing was examined, the verdict is unknown
    /// for the reason `nothing`.
    pub fn verdict(self, nothing: &str, note: String) -> Verdict {
        let Self { examined, violations, witnesses, doubt } = self;
        if violations > 0 {
            return Verdict::Invalid { examined, violations, witnesses };
        }
        if let Some(why) = doubt {
            return Verdict::Unknown { examined, why };
        }
        if examined == 0 {
            return Verdict::Unknown { examined, why: nothing.to_owned() };
        }
        Verdict::Valid { examined, note }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The verdict on a number of things, a number of violations and these doubts.
    fn examined(things: u64, broken: u64, doubts: &[&str]) -> Verdict {
        let mut examination = Examination::default();
        (0..things).for_each(|_| examination.saw_one());
        (0..broken).for_each(|at| examination.broken(format!("the {at}th"), [at, at + 1]));
        for doubt in doubts {
            examination.doubt((*doubt).to_owned());
        }
        examination.verdict("nothing was seen", "a note".into())
    }

    #[test]
    fn examined_without_violation_is_valid() {
        let (examined, note) = (2, "a note".into());
        let verdict = self::examined(2, 0, &[]);
        assert_eq!(verdict, Verdict::Valid { examined, note });
        assert_eq!((verdict.word(), verdict.examined()), ("valid", 2));
        assert_eq!((verdict.is_valid(), verdict.is_invalid()), (true, false));
    }

    #[test]
    fn nothing_examined_and_a_doubt_are_unknown() {
        let unknown = |examined, why: &str| {
            let why = why.to_owned();
            Verdict::Unknown { examined, why }
        };
        assert_eq!(examined(0, 0, &[]), unknown(0, "nothing was seen"));
        let doubtful = examined(3, 0, &["first", "second"]);
        assert_eq!(doubtful, unknown(3, "first"));
        assert_eq!((doubtful.word(), doubtful.examined()), ("unknown", 3));
        assert_eq!((doubtful.is_valid(), doubtful.is_invalid()), (false, false));
    }

    #[test]
    fn violation_outweighs_doubts_and_five_witnesses_are_kept() {
        let verdict = examined(9, 7, &["a doubt"]);
        assert_eq!((verdict.word(), verdict.examined()), ("INVALID", 9));
        assert_eq!((verdict.is_valid(), verdict.is_invalid()), (false, true));
        let Verdict::Invalid { violations, witnesses, .. } = verdict else {
            panic!("{verdict:?}");
        };
        assert_eq!((violations, witnesses.len()), (7, WITNESSES_MAX));
        assert_eq!(witnesses[1], Witness::new("the 1th".into(), [1, 2]));
        assert!(examined(9, 1, &[]).is_invalid());
    }
}
