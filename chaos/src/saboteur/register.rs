//! The register of saboteurs: each with the checker that must catch it, and within what budget.

use std::sync::Arc;

use super::{
    Budget, Lie, acknowledges_before_commit, calls_500_success, calls_timeout_success,
    counts_a_retry_as_the_first, forgets_after_202, forgets_keys, gives_up_early,
    ignores_other_bytes, ignores_retry_after, ignores_the_host_cap, ignores_the_lease,
    never_reclaims, reserializes, retries_without_backoff, says_delivered_unsent, sends_elsewhere,
    signs_wrongly, takes_half_a_body,
};
use crate::nemesis::{AbortUpload, SameKey};

/// A broken dispatcher and who must catch it.
#[derive(Clone, Copy, Debug)]
pub struct Saboteur {
    /// Its name.
    pub name: &'static str,
    /// What it does wrong, in a sentence.
    pub what: &'static str,
    /// The checker that must say invalid.
    pub caught_by: &'static str,
    /// Checkers that may say so, too: the same wrong seen from elsewhere.
    pub also_caught_by: &'static [&'static str],
    /// Within what it must be caught.
    pub budget: Budget,
    /// A fresh liar.
    pub lie: fn() -> Arc<dyn Lie>,
}

/// Every saboteur, in the order of what it breaks.
pub const SABOTEURS: &[Saboteur] = &[
    Saboteur {
        name: "forgets_after_202",
        what: "answers 202 and forgets every seventh event",
        caught_by: "no_loss",
        also_caught_by: &[],
        budget: Budget::of_workers(1),
        lie: || Arc::new(forgets_after_202::Forgets),
    },
    Saboteur {
        name: "acknowledges_before_commit",
        what: "answers 202 and stores the event later, unless it is killed before",
        caught_by: "no_loss",
        also_caught_by: &[],
        budget: Budget::of_workers(1),
        lie: || Arc::new(acknowledges_before_commit::AcknowledgesFirst),
    },
    Saboteur {
        name: "forgets_keys",
        what: "takes a repeated post under one key for a new event",
        caught_by: "idempotency",
        also_caught_by: &["attempts", "backoff", "duplicates", "state_agrees"],
        budget: Budget::of_workers(1),
        lie: || Arc::new(forgets_keys::ForgetsKeys),
    },
    Saboteur {
        name: "ignores_other_bytes",
        what: "answers a known key with its id, whatever bytes are posted under it",
        caught_by: "idempotency",
        also_caught_by: &["no_loss", "right_target", "state_agrees"],
        budget: Budget::of_workers(1).with_fault(SameKey::KIND),
        lie: || Arc::new(ignores_other_bytes::IgnoresBytes),
    },
    Saboteur {
        name: "takes_half_a_body",
        what: "takes what came of a body that was broken off for the whole of it",
        caught_by: "indeterminate",
        also_caught_by: &[],
        budget: Budget::of_workers(1).with_fault(AbortUpload::KIND),
        lie: || Arc::new(takes_half_a_body::TakesHalf),
    },
    Saboteur {
        name: "ignores_the_lease",
        what: "two workers of one database send what the other holds",
        caught_by: "duplicates",
        also_caught_by: &["attempts", "backoff", "state_agrees"],
        budget: Budget::of_workers(2),
        lie: || Arc::new(ignores_the_lease::IgnoresLeases),
    },
    Saboteur {
        name: "ignores_the_host_cap",
        what: "lets one host take every slot, so that the others wait for it while it hangs",
        caught_by: "isolation",
        also_caught_by: &[],
        budget: Budget::of_slots(9, 3),
        lie: || Arc::new(ignores_the_host_cap::IgnoresHostCap),
    },
    Saboteur {
        name: "never_reclaims",
        what: "leaves the events of a killed worker with it for ever",
        caught_by: "liveness",
        also_caught_by: &[],
        budget: Budget::of_workers(1),
        lie: || Arc::new(never_reclaims::NeverReclaims),
    },
    Saboteur {
        name: "counts_a_retry_as_the_first",
        what: "sends the first retry under the number of the first attempt",
        caught_by: "attempts",
        also_caught_by: &["backoff", "state_agrees"],
        budget: Budget::of_workers(1),
        lie: || Arc::new(counts_a_retry_as_the_first::CountsAgain),
    },
    Saboteur {
        name: "says_delivered_unsent",
        what: "calls every fifth event delivered without sending it",
        caught_by: "state_agrees",
        also_caught_by: &["no_loss"],
        budget: Budget::of_workers(1),
        lie: || Arc::new(says_delivered_unsent::SaysDelivered),
    },
    Saboteur {
        name: "sends_elsewhere",
        what: "sends an event to the host of the event before",
        caught_by: "right_target",
        also_caught_by: &[],
        budget: Budget::of_workers(1),
        lie: || Arc::new(sends_elsewhere::SendsElsewhere::new()),
    },
    Saboteur {
        name: "reserializes",
        what: "parses the payload and sends what it writes anew",
        caught_by: "payload",
        also_caught_by: &[],
        budget: Budget::of_workers(1),
        lie: || Arc::new(reserializes::Reserializes),
    },
    Saboteur {
        name: "signs_wrongly",
        what: "signs the body without its last byte",
        caught_by: "signature",
        also_caught_by: &["dead_letters"],
        budget: Budget::of_workers(1),
        lie: || Arc::new(signs_wrongly::SignsWrongly),
    },
    Saboteur {
        name: "calls_500_success",
        what: "takes a 500 for a success",
        caught_by: "state_agrees",
        also_caught_by: &["no_loss"],
        budget: Budget::of_workers(1),
        lie: || Arc::new(calls_500_success::Calls500Success),
    },
    Saboteur {
        name: "calls_timeout_success",
        what: "takes a timeout for a success",
        caught_by: "state_agrees",
        also_caught_by: &["no_loss"],
        budget: Budget::of_workers(1),
        lie: || Arc::new(calls_timeout_success::CallsTimeoutSuccess),
    },
    Saboteur {
        name: "retries_without_backoff",
        what: "tries again at once after a failure",
        caught_by: "backoff",
        also_caught_by: &[],
        budget: Budget::of_workers(1),
        lie: || Arc::new(retries_without_backoff::Impatient),
    },
    Saboteur {
        name: "ignores_retry_after",
        what: "comes back before the Retry-After that it was told",
        caught_by: "backoff",
        also_caught_by: &[],
        budget: Budget::of_workers(1),
        lie: || Arc::new(ignores_retry_after::IgnoresRetryAfter),
    },
    Saboteur {
        name: "gives_up_early",
        what: "calls an event dead after two failures",
        caught_by: "dead_letters",
        also_caught_by: &[],
        budget: Budget::of_workers(1),
        lie: || Arc::new(gives_up_early::GivesUp),
    },
];
