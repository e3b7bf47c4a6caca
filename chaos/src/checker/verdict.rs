//! What a checker says: valid, invalid with witnesses, or unknown; and how it comes to say it.

use serde::{Deserialize, Serialize};

/// Violations that a verdict shows at most; the number of all is always given.
pub const WITNESSES_MAX: usize = 5;

/// What a checker says of a history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// Everything examined keeps the invariant.
    Valid {
        /// How many things were examined.
        examined: u64,
        /// What was seen, in a few words.
        note: String,
    },
    /// Something breaks the invariant.
    Invalid {
        /// How many things were examined.
        examined: u64,
        /// How many of them break it.
        violations: u64,
        /// The first of them.
        witnesses: Vec<Witness>,
    },
    /// The history cannot tell.
    Unknown {
        /// How many things were examined.
        examined: u64,
        /// Why it cannot.
        why: String,
    },
}

/// The lines of the history that prove a violation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Witness {
    /// What is wrong.
    pub what: String,
    /// The `seq` of each line that shows it.
    pub seqs: Vec<u64>,
}

impl Witness {
    /// A violation, and the lines that prove it.
    #[must_use]
    pub fn new(what: String, seqs: impl IntoIterator<Item = u64>) -> Witness {
        Witness {
            what,
            seqs: seqs.into_iter().collect(),
        }
    }
}

impl Verdict {
    /// True when the invariant is broken.
    #[must_use]
    pub const fn is_invalid(&self) -> bool {
        matches!(self, Verdict::Invalid { .. })
    }

    /// True when the invariant holds.
    #[must_use]
    pub const fn is_valid(&self) -> bool {
        matches!(self, Verdict::Valid { .. })
    }

    /// One word: `valid`, `INVALID` or `unknown`.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Verdict::Valid { .. } => "valid",
            Verdict::Invalid { .. } => "INVALID",
            Verdict::Unknown { .. } => "unknown",
        }
    }

    /// How many things were examined.
    #[must_use]
    pub const fn examined(&self) -> u64 {
        match self {
            Verdict::Valid { examined, .. }
            | Verdict::Invalid { examined, .. }
            | Verdict::Unknown { examined, .. } => *examined,
        }
    }
}

/// Gathers what a checker examined and what it found broken.
#[derive(Debug, Default)]
pub struct Examination {
    examined: u64,
    violations: u64,
    witnesses: Vec<Witness>,
    doubt: Option<String>,
}

impl Examination {
    /// One more thing was looked at.
    pub fn saw_one(&mut self) {
        self.examined += 1;
    }

    /// Something breaks the invariant.
    pub fn broken(&mut self, what: String, seqs: impl IntoIterator<Item = u64>) {
        self.violations += 1;
        if self.witnesses.len() < WITNESSES_MAX {
            self.witnesses.push(Witness::new(what, seqs));
        }
    }

    /// Something keeps the history from telling, unless a violation is found.
    pub fn doubt(&mut self, why: String) {
        self.doubt.get_or_insert(why);
    }

    /// The verdict: broken before doubtful, and nothing examined is unknown.
    #[must_use]
    pub fn verdict(self, nothing: &str, note: String) -> Verdict {
        let Examination {
            examined,
            violations,
            witnesses,
            doubt,
        } = self;
        if violations > 0 {
            return Verdict::Invalid {
                examined,
                violations,
                witnesses,
            };
        }
        if let Some(why) = doubt {
            return Verdict::Unknown { examined, why };
        }
        if examined == 0 {
            return Verdict::Unknown {
                examined,
                why: nothing.to_owned(),
            };
        }
        Verdict::Valid { examined, note }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An examination of so many things, so many of them broken, with these doubts.
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
    fn what_was_examined_and_found_whole_is_valid() {
        let (examined, note) = (2, "a note".into());
        let verdict = self::examined(2, 0, &[]);
        assert_eq!(verdict, Verdict::Valid { examined, note });
        assert_eq!((verdict.word(), verdict.examined()), ("valid", 2));
        assert_eq!((verdict.is_valid(), verdict.is_invalid()), (true, false));
    }

    #[test]
    fn nothing_seen_and_the_first_doubt_are_unknown() {
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
    fn one_violation_outweighs_every_doubt_and_only_the_first_few_are_shown() {
        let verdict = examined(9, 7, &["a doubt"]);
        assert_eq!((verdict.word(), verdict.examined()), ("INVALID", 9));
        assert_eq!((verdict.is_valid(), verdict.is_invalid()), (false, true));
        let Verdict::Invalid {
            violations,
            witnesses,
            ..
        } = verdict
        else {
            panic!("{verdict:?}");
        };
        assert_eq!((violations, witnesses.len()), (7, WITNESSES_MAX));
        assert_eq!(witnesses[1], Witness::new("the 1th".into(), [1, 2]));
        assert!(examined(9, 1, &[]).is_invalid());
    }
}
