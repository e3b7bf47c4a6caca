//! The table of mutants. Each row names the checker that must detect the mutant.

use super::Mutant;
use super::claiming::*;
use super::ingest::*;
use super::reclaiming::*;
use super::settling::*;
use super::wire::*;

/// One mutant and the proof that it must give.
#[derive(Clone, Copy)]
pub struct MutantSpec {
    /// Describes the mistake. `chaos sim --mutant` takes this name.
    pub name: &'static str,
    /// Name of the checker that must detect it.
    pub detected_by: &'static str,
    /// Maximum number of seeds until the detection.
    pub budget: u64,
    /// The hooks of the mistake.
    pub mutant: &'static dyn Mutant,
}

/// Budget for a mistake on the path of every event, in seeds.
const COMMON: u64 = 50;
/// Budget for a mistake that only some faults show, in seeds.
const RARE: u64 = 1_000;
/// Budget for the canary, in seeds.
const CANARY: u64 = 2_000;

/// Every mutant, in the order of the transitions that it changes.
#[rustfmt::skip] // One row per line.
pub const MUTANTS: &[MutantSpec] = &[
    spec("acknowledges without storing", "no_loss", COMMON, &AcknowledgesUnstored),
    spec("acknowledges an unknown commit", "no_loss", RARE, &AcknowledgesUnknown),
    spec("acknowledges a refused half", "no_loss", RARE, &AcknowledgesRefused),
    spec("hands over before the commit", "no_loss", RARE, &HandsOverUncommitted),
    spec("loses permits of the hand-off", "progress", RARE, &LosesPermits),
    spec("refuses an unknown commit", "no_phantom", RARE, &RefusesUnknown),
    spec("forgets idempotency keys", "idempotency", COMMON, &ForgetsKeys),
    spec("re-serialises the payload", "payload", COMMON, &Reserialises),
    spec("claims before due", "due_times", COMMON, &ClaimsEarly),
    spec("claims leased events", "lease_exclusion", COMMON, &ClaimsLeased),
    spec("claims final events", "terminal_is_final", COMMON, &ClaimsFinal),
    spec("leases by the worker's clock", "clock_safety", RARE, &LeasesByWorkerClock),
    spec("hands over by the worker's clock", "clock_safety", RARE, &HandsOverByWorkerClock),
    spec("does not count attempts", "attempt_accounting", COMMON, &ClaimsUncounted),
    spec("release counts as an attempt", "attempt_accounting", RARE, &ReleaseCounts),
    spec("never finds its orphaned claims", "attempts_explained", RARE, &NeverFindsOrphans),
    spec("no fence", "fencing", RARE, &NoFence),
    spec("drops successes", "duplicates", COMMON, &DropsSuccesses),
    spec("retries successes", "settles_agree", COMMON, &RetriesSuccesses),
    spec("retry resets failures", "attempt_accounting", COMMON, &RetryResetsFailures),
    spec("does not split a refused batch", "progress", COMMON, &TreatsRefusedDataAsOutage),
    spec("deletes dead events", "conservation", COMMON, &DeletesDead),
    spec("delay overflows to zero", "due_times", COMMON, &DelayOverflows),
    spec("no delay", "due_times", COMMON, &Configured(no_delay)),
    spec("no delay cap", "due_times", RARE, &Configured(no_delay_cap)),
    spec("ignores Retry-After", "due_times", RARE, &Configured(ignores_retry_after)),
    spec("one attempt too many", "dead_when_earned", COMMON, &Configured(one_attempt_more)),
    spec("one attempt too few", "dead_when_earned", COMMON, &Configured(one_attempt_less)),
    spec("dead after one abandonment", "dead_when_earned", RARE, &Configured(one_abandonment)),
    spec("never reclaims", "progress", RARE, &NeverReclaims),
    spec("reclaims before expiry", "lease_exclusion", COMMON, &ReclaimsEarly),
    spec("reclaims from live workers", "lease_exclusion", COMMON, &ReclaimsFromLive),
    spec("does not count abandonments", "attempt_accounting", RARE, &AbandonsUncounted),
    spec("deletes abandoned events", "conservation", RARE, &DeletesAbandoned),
    spec("reports delivered without sending", "settles_agree", COMMON, &ReportsUnsentDelivered),
    spec("counts 500 as success", "settles_agree", COMMON, &CountsAsSuccess(is_500)),
    spec("counts a timeout as success", "settles_agree", COMMON, &CountsAsSuccess(is_timeout)),
    spec("counts headers as success", "settles_agree", COMMON, &CountsAsSuccess(is_incomplete)),
    spec("counts 204 as failure", "settles_agree", COMMON, &Counts204AsFailure),
    spec("counts local exhaustion as an attempt", "settles_agree", RARE, &CountsLocalExhaustion),
    spec("ignores hosts that do not respond", "isolation", RARE, &IgnoresDeadlines),
    spec("wrong signature", "signature", COMMON, &Sends(wrong_signature)),
    spec("wrong timestamp", "signature", COMMON, &Sends(wrong_timestamp)),
    spec("wrong target", "right_target", COMMON, &Sends(wrong_target)),
    spec("wrong bytes", "payload", COMMON, &Sends(wrong_bytes)),
    spec("canary: loses an event in 1 % of runs", "no_loss", CANARY, &Canary),
];

const fn spec(
    name: &'static str,
    detected_by: &'static str,
    budget: u64,
    mutant: &'static dyn Mutant,
) -> MutantSpec {
    MutantSpec { name, detected_by, budget, mutant }
}

impl MutantSpec {
    /// Finds a mutant by its name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        MUTANTS.iter().find(|spec| spec.name == name)
    }
}
