//! Every mutant with the invariant that must kill it.

use std::time::Duration;

use dispatcher::event::Outcome;

use super::Mutant;
use super::claiming::*;
use super::ingest::*;
use super::settling::*;
use super::sweeping::*;
use super::wire::*;

/// A mutant, what it does wrong, and what must notice.
#[derive(Clone, Copy)]
pub struct Specimen {
    /// Its name.
    pub name: &'static str,
    /// The checker that must kill it.
    pub killer: &'static str,
    /// Seeds within which that must happen.
    pub budget: u64,
    /// The mistake itself.
    pub mutant: &'static dyn Mutant,
}

/// Seeds that are enough for a mistake on the way of every event.
const COMMON: u64 = 50;
/// Seeds for a mistake that shows only under certain faults.
const RARE: u64 = 1_000;

const fn specimen(
    name: &'static str,
    killer: &'static str,
    budget: u64,
    mutant: &'static dyn Mutant,
) -> Specimen {
    Specimen {
        name,
        killer,
        budget,
        mutant,
    }
}

/// Every mutant, by the part in which its mistake is.
pub const MUTANTS: &[Specimen] = &[
    specimen("forgets after 202", "no_loss", COMMON, &ForgetsAfter202),
    specimen("unknown commit is 202", "no_loss", RARE, &UnknownIs202),
    specimen("unknown commit is 422", "no_phantom", RARE, &UnknownIs422),
    specimen(
        "forgets idempotency keys",
        "idempotency",
        COMMON,
        &ForgetsKeys,
    ),
    specimen(
        "re-serialises the payload",
        "payload",
        COMMON,
        &Reserialises,
    ),
    specimen("claims before due", "due_times", COMMON, &ClaimsEarly),
    specimen(
        "claims what is held",
        "lease_exclusion",
        COMMON,
        &ClaimsWhatIsHeld,
    ),
    specimen(
        "reopens the delivered",
        "terminal_is_final",
        COMMON,
        &ReopensTheDelivered,
    ),
    specimen(
        "leases by the worker's clock",
        "clock_safety",
        RARE,
        &LeasesByTheWorkersClock,
    ),
    specimen(
        "does not count an attempt",
        "attempt_accounting",
        COMMON,
        &CountsNoAttempt,
    ),
    specimen(
        "release burns an attempt",
        "attempt_accounting",
        RARE,
        &ReleaseBurns,
    ),
    specimen("no fence", "fencing", RARE, &NoFence),
    specimen("drops successes", "duplicates", COMMON, &DropsSuccesses),
    specimen(
        "retries successes",
        "settles_agree",
        COMMON,
        &RetriesSuccesses,
    ),
    specimen(
        "retry resets failures",
        "attempt_accounting",
        COMMON,
        &RetryResetsFailures,
    ),
    specimen("deletes the dead", "conservation", COMMON, &DeletesTheDead),
    specimen(
        "delay overflows to nothing",
        "due_times",
        COMMON,
        &DelayOverflows,
    ),
    specimen("no delay", "due_times", COMMON, &NO_DELAY),
    specimen("delay without its cap", "due_times", RARE, &NO_CAP),
    specimen(
        "ignores Retry-After",
        "due_times",
        RARE,
        &IGNORES_RETRY_AFTER,
    ),
    specimen(
        "one attempt too many",
        "dead_when_earned",
        COMMON,
        &ONE_MORE,
    ),
    specimen("gives up early", "dead_when_earned", COMMON, &ONE_LESS),
    specimen(
        "gives up on the abandoned",
        "dead_when_earned",
        RARE,
        &NO_ABANDONMENT,
    ),
    specimen("never reclaims", "progress", RARE, &NeverReclaims),
    specimen(
        "reclaims before expiry",
        "lease_exclusion",
        COMMON,
        &ReclaimsEarly,
    ),
    specimen(
        "takes the living for gone",
        "lease_exclusion",
        COMMON,
        &TakesTheLivingForGone,
    ),
    specimen(
        "does not count abandonments",
        "attempt_accounting",
        RARE,
        &CountsNoAbandonment,
    ),
    specimen(
        "drops the abandoned",
        "conservation",
        RARE,
        &DropsTheAbandoned,
    ),
    specimen(
        "says delivered, sends nothing",
        "settles_agree",
        COMMON,
        &SaysDeliveredUnsent,
    ),
    specimen(
        "counts 500 as success",
        "settles_agree",
        COMMON,
        &COUNTS_500,
    ),
    specimen(
        "counts a timeout as success",
        "settles_agree",
        COMMON,
        &COUNTS_TIMEOUT,
    ),
    specimen(
        "headers are enough",
        "settles_agree",
        COMMON,
        &COUNTS_HEADERS,
    ),
    specimen(
        "takes 204 for a failure",
        "settles_agree",
        COMMON,
        &TakesSuccessForFailure,
    ),
    specimen(
        "burns an attempt on its own shortage",
        "settles_agree",
        RARE,
        &BlamesTheReceiver,
    ),
    specimen("signs wrongly", "signature", COMMON, &SIGNS_WRONGLY),
    specimen(
        "says another time than it signed",
        "signature",
        COMMON,
        &OTHER_TIME,
    ),
    specimen(
        "sends to another target",
        "right_target",
        COMMON,
        &OTHER_TARGET,
    ),
    specimen("sends other bytes", "payload", COMMON, &OTHER_BYTES),
    specimen(
        "canary: loses an event in one run of a hundred",
        "no_loss",
        2_000,
        &Canary,
    ),
];

static NO_DELAY: Configured = Configured(|config| {
    config.policy.base = Duration::ZERO;
});
static NO_CAP: Configured = Configured(|config| config.policy.cap *= 8);
static IGNORES_RETRY_AFTER: Configured = Configured(|config| {
    config.policy.retry_after_cap = Duration::ZERO;
});
static ONE_MORE: Configured = Configured(|config| config.policy.max_attempts += 1);
static ONE_LESS: Configured = Configured(|config| config.policy.max_attempts -= 1);
static NO_ABANDONMENT: Configured = Configured(|config| config.policy.max_abandoned = 1);
static COUNTS_500: TakesForSuccess =
    TakesForSuccess(|outcome| matches!(outcome, Outcome::Rejected { status: 500, .. }));
static COUNTS_TIMEOUT: TakesForSuccess =
    TakesForSuccess(|outcome| matches!(outcome, Outcome::Timeout));
static COUNTS_HEADERS: TakesForSuccess =
    TakesForSuccess(|outcome| matches!(outcome, Outcome::Body | Outcome::ResponseTooLarge { .. }));
static SIGNS_WRONGLY: Sends = Sends(signed_wrongly);
static OTHER_TIME: Sends = Sends(at_another_time);
static OTHER_TARGET: Sends = Sends(to_another);
static OTHER_BYTES: Sends = Sends(other_bytes);

impl Specimen {
    /// The mutant of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Specimen> {
        MUTANTS.iter().find(|specimen| specimen.name == name)
    }
}
