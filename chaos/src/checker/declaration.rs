//! The declaration of a checker: its invariant, the runs that it judges and the facts that it
//! needs.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::verdict::Verdict;
use crate::history::facts::Facts;

/// One checker of the list.
#[derive(Clone, Copy)]
pub struct Checker {
    /// Name in snake case, unique in the list.
    pub name: &'static str,
    /// The invariant in one sentence.
    pub invariant: &'static str,
    /// The kind of property, which decides the exit code of a violation.
    pub property: Property,
    /// The runs that it judges.
    pub when: When,
    /// The facts without which it is not asked.
    pub needs: &'static [Need],
    /// Judges a history. It is pure and may panic, which counts as unknown.
    pub check: fn(&Facts<'_>) -> Verdict,
}

/// The kind of property that an invariant is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Property {
    /// Something must never happen.
    Safety,
    /// Something must happen within a bound.
    Liveness,
    /// The run must have tested its plan.
    Coverage,
}

/// Where the history of a run comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// Real processes, a real Postgres and real sockets.
    Real,
    /// The worker over a model store in virtual time.
    Simulation,
}

/// The runs that a checker judges.
#[derive(Clone, Copy)]
pub struct When {
    /// The condition in words, for `docs/checkers.md`.
    pub about: &'static str,
    in_simulation: bool,
    is_exercised: fn(&Facts<'_>) -> bool,
}

/// A part of the history that not every dispatcher provides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// The final read of each event.
    State,
    /// The attempts of each event in its final read, and their numbers in the requests.
    Attempts,
    /// Retry delays, deadline and lease of the dispatcher.
    RetryRule,
    /// Requests that carry the bytes of the post.
    ExactBytes,
    /// Signed requests.
    Signature,
    /// Idempotency keys.
    Keys,
    /// The transitions that the store committed.
    Audit,
}

/// A checker that does not judge a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAsked {
    /// Name of the checker.
    pub checker: &'static str,
    /// The need that the history does not meet. `None` if the run does not exercise the checker.
    pub missing: Option<Need>,
}

impl When {
    /// Every run of both tiers.
    pub const ALWAYS: Self = Self { about: "always", in_simulation: true, is_exercised: |_| true };
    /// Every run of real processes. The checker judges the plan of such a run.
    pub const REAL: Self = Self { about: "real processes", in_simulation: false, ..Self::ALWAYS };

    /// The runs of real processes for which `is_exercised` returns true.
    pub const fn real_if(about: &'static str, is_exercised: fn(&Facts<'_>) -> bool) -> Self {
        Self { about, in_simulation: false, is_exercised }
    }

    /// The runs of both tiers for which `is_exercised` returns true.
    pub const fn only_if(about: &'static str, is_exercised: fn(&Facts<'_>) -> bool) -> Self {
        Self { about, in_simulation: true, is_exercised }
    }

    /// Returns true if a checker is meant for a tier.
    pub(super) fn is_for(&self, tier: Tier) -> bool {
        self.in_simulation || tier == Tier::Real
    }
}

impl Need {
    /// Returns true if the history provides this part. The audit is the only part that a run of
    /// this dispatcher may lack.
    const fn is_met(self, facts: &Facts<'_>) -> bool {
        !matches!(self, Self::Audit) || facts.has_audit
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::State => "state",
            Self::Attempts => "attempts",
            Self::RetryRule => "retry rule",
            Self::ExactBytes => "exact bytes",
            Self::Signature => "signature",
            Self::Keys => "keys",
            Self::Audit => "audit",
        })
    }
}

impl Checker {
    /// Returns the reason why the checker does not judge this history, or `None` if it does.
    pub(super) fn not_asked(&self, facts: &Facts<'_>) -> Option<NotAsked> {
        let mut needs = self.needs.iter().copied();
        let missing = needs.find(|need| !need.is_met(facts));
        let is_asked = missing.is_none() && (self.when.is_exercised)(facts);
        (!is_asked).then_some(NotAsked { checker: self.name, missing })
    }
}
