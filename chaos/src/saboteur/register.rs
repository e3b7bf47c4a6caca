//! The register of saboteurs: each with the checker that must catch it, and within what budget.

use std::sync::Arc;

use super::{
    Lie, acknowledges_before_commit, calls_500_success, calls_timeout_success,
    counts_a_retry_as_the_first, forgets_after_202, forgets_keys, gives_up_early,
    ignores_other_bytes, ignores_retry_after, ignores_the_lease, never_reclaims, reserializes,
    retries_without_backoff, says_delivered_unsent, sends_elsewhere, signs_wrongly,
    takes_half_a_body,
};
use crate::profile::{Profile, Settings};

/// Events that a saboteur is given to betray itself.
const EVENTS: u32 = 40;
/// How long they are posted, in milliseconds.
const STORM_MS: u64 = 2_000;

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

/// Within how much of a run a saboteur must be caught.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Events that are posted.
    pub events: u32,
    /// How long they are posted, in milliseconds.
    pub storm_ms: u64,
    /// Workers that share them.
    pub workers: u32,
    /// A fault, beside the kill, without which it would not betray itself; drawn twice.
    pub fault: Option<&'static str>,
}

impl Budget {
    /// The budget of most saboteurs.
    #[must_use]
    pub const fn of_workers(workers: u32) -> Budget {
        Budget {
            events: EVENTS,
            storm_ms: STORM_MS,
            workers,
            fault: None,
        }
    }

    /// The same with two faults of this kind.
    #[must_use]
    pub const fn with_fault(self, fault: &'static str) -> Budget {
        let fault = Some(fault);
        Budget { fault, ..self }
    }

    /// The run that it pays for: few attempts and little slack, since a saboteur's events may never end.
    #[must_use]
    pub fn profile(self) -> Profile {
        Profile {
            name: "sabotage".into(),
            events: self.events,
            baseline_ms: 0,
            storm_ms: self.storm_ms,
            workers: self.workers,
            failures_max: 3,
            answer_delay_ms_max: 300,
            // A kill excuses what two workers send twice: they must betray themselves without one.
            kills: u32::from(self.workers == 1),
            faults: self
                .fault
                .map(|name| (name.to_owned(), 2))
                .into_iter()
                .collect(),
            kills_required: u32::from(self.workers == 1),
            payload_bytes_max: 8 * 1024,
            default_events: 0,
            drain_slack_ms: 3_000,
            settings: Settings {
                // On a loaded machine a request may wait for a second before its receiver sees it: with a
                // shorter deadline it was sent again for no cause that anybody could see.
                http_timeout_ms: 2_500,
                backoff_base_ms: 50,
                backoff_cap_ms: 400,
                lease_ms: 4_000,
                max_attempts: 6,
                ..Settings::scaled()
            },
            ..Profile::chaotic()
        }
    }
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
        budget: Budget::of_workers(1).with_fault("client.same_key"),
        lie: || Arc::new(ignores_other_bytes::IgnoresBytes),
    },
    Saboteur {
        name: "takes_half_a_body",
        what: "takes what came of a body that was broken off for the whole of it",
        caught_by: "indeterminate",
        also_caught_by: &[],
        budget: Budget::of_workers(1).with_fault("client.abort"),
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
