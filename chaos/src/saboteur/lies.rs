//! The table of saboteurs: each misbehavior with the checker that must detect it and the run in
//! which it must do so.

use super::budget::{Budget, Permits};
use super::exact::Exact;
use super::misbehavior::Misbehavior;
use crate::nemesis::{AbortUpload, Crowd, DeadAddress, LogLoss, SameKey, StrayBytes};

/// Permits that leave places for each of four hosts.
const MANY: Permits = Permits { total: 24, per_host: 6 };

/// One misbehavior and the checkers that detect it.
#[derive(Clone, Copy, Debug)]
pub struct Saboteur {
    /// Name in snake case, unique in the table.
    pub name: &'static str,
    /// The deviation of the fake dispatcher.
    pub misbehavior: Misbehavior,
    /// The deviation in one sentence.
    pub description: &'static str,
    /// The checker whose verdict must be invalid.
    pub detected_by: &'static str,
    /// Checkers whose verdict may be invalid too, because they see the same defect.
    pub also: &'static [&'static str],
    /// Size and settings of the run.
    pub budget: Budget,
}

/// Every saboteur, ordered by the part of the contract that it breaks.
pub const SABOTEURS: &[Saboteur] = &[
    Saboteur {
        name: "forgets_after_202",
        misbehavior: Misbehavior::ForgetsAfter202,
        description: "answers 202 and does not store every seventh event",
        detected_by: "no_loss",
        also: &[],
        budget: Budget::of_workers(1),
    },
    Saboteur {
        name: "acknowledges_before_commit",
        misbehavior: Misbehavior::AcknowledgesBeforeCommit,
        description: "answers 202 and stores the event 1 s later, or never if a kill comes first",
        detected_by: "no_loss",
        also: &[],
        budget: Budget::of_workers(1),
    },
    Saboteur {
        name: "forgets_keys",
        misbehavior: Misbehavior::ForgetsKeys,
        description: "stores a new event for each post of one idempotency key",
        detected_by: "idempotency",
        also: &["attempts", "backoff", "duplicates", "state_agrees"],
        budget: Budget::of_workers(1),
    },
    Saboteur {
        name: "ignores_other_bytes",
        misbehavior: Misbehavior::IgnoresOtherBytes,
        description: "returns the known id for other bytes under a known key",
        detected_by: "idempotency",
        also: &["no_loss", "right_target", "state_agrees"],
        budget: Budget::of_workers(1).with_fault(SameKey::KIND),
    },
    Saboteur {
        name: "takes_half_a_body",
        misbehavior: Misbehavior::TakesHalfABody,
        description: "stores the received part of an interrupted body as the event",
        detected_by: "indeterminate",
        also: &[],
        budget: Budget::of_workers(1).with_fault(AbortUpload::KIND),
    },
    Saboteur {
        name: "ignores_the_lease",
        misbehavior: Misbehavior::IgnoresTheLease,
        description: "two workers of one database send events that the other one holds",
        detected_by: "duplicates",
        also: &["attempts", "backoff", "state_agrees"],
        budget: Budget::of_workers(2),
    },
    Saboteur {
        name: "ignores_the_host_cap",
        misbehavior: Misbehavior::IgnoresTheHostCap,
        description: "one host can take every permit, and the other hosts wait while it hangs",
        detected_by: "isolation",
        also: &[],
        budget: Budget::of_permits(Permits { total: 9, per_host: 3 }),
    },
    Saboteur {
        name: "serves_first_comers",
        misbehavior: Misbehavior::ServesFirstComers,
        description: "keeps the connections of clients without a key, and others wait for their end",
        detected_by: "served",
        also: &[],
        budget: Budget::of_workers(2).with_fault(Crowd::KIND),
    },
    Saboteur {
        name: "never_reclaims",
        misbehavior: Misbehavior::NeverReclaims,
        description: "leaves the events of a killed worker claimed forever",
        detected_by: "liveness",
        also: &[],
        budget: Budget::of_workers(1),
    },
    Saboteur {
        name: "counts_a_retry_as_the_first",
        misbehavior: Misbehavior::CountsARetryAsTheFirst,
        description: "sends the first retry with the number of the first attempt",
        detected_by: "attempts",
        also: &["backoff", "state_agrees"],
        budget: Budget::of_workers(1),
    },
    Saboteur {
        name: "says_delivered_unsent",
        misbehavior: Misbehavior::SaysDeliveredUnsent,
        description: "records every fifth event as delivered and does not send it",
        detected_by: "state_agrees",
        also: &["no_loss"],
        budget: Budget::of_workers(1),
    },
    Saboteur {
        name: "says_failed_unsent",
        misbehavior: Misbehavior::SaysFailedUnsent,
        description: "records the first attempt of every third event as failed and does not make it",
        detected_by: "attempts_explained",
        also: &[],
        budget: Budget::of_workers(1),
    },
    Saboteur {
        name: "sends_elsewhere",
        misbehavior: Misbehavior::SendsElsewhere,
        description: "sends each event to the host of the event before it",
        detected_by: "right_target",
        also: &[],
        budget: Budget::of_workers(1),
    },
    Saboteur {
        name: "reserializes",
        misbehavior: Misbehavior::Reserializes,
        description: "parses the payload and sends its own serialization",
        detected_by: "payload",
        also: &[],
        budget: Budget::of_workers(1),
    },
    Saboteur {
        name: "signs_wrongly",
        misbehavior: Misbehavior::SignsWrongly,
        description: "signs the body without its last byte",
        detected_by: "signature",
        also: &["dead_letters"],
        budget: Budget::of_workers(1),
    },
    Saboteur {
        name: "calls_500_success",
        misbehavior: Misbehavior::Calls500Success,
        description: "records a 500 as a success",
        detected_by: "state_agrees",
        also: &["no_loss"],
        budget: Budget::of_workers(1),
    },
    Saboteur {
        name: "calls_timeout_success",
        misbehavior: Misbehavior::CallsTimeoutSuccess,
        description: "records a timeout as a success",
        detected_by: "state_agrees",
        also: &["no_loss"],
        budget: Budget::of_workers(1),
    },
    Saboteur {
        name: "takes_stray_responses",
        misbehavior: Misbehavior::TakesStrayResponses,
        description: "takes unread bytes of a kept connection for the response to the next request",
        detected_by: "state_agrees",
        also: &["attempts_explained", "no_loss"],
        budget: Budget::of_workers(2).with_fault(StrayBytes::KIND),
    },
    Saboteur {
        name: "tries_one_address",
        misbehavior: Misbehavior::TriesOneAddress,
        description: "connects only to the first address of a name",
        detected_by: "attempts_explained",
        also: &["dead_letters"],
        budget: Budget::of_workers(2).with_fault(DeadAddress::KIND),
    },
    Saboteur {
        name: "retries_without_backoff",
        misbehavior: Misbehavior::RetriesWithoutBackoff,
        description: "retries immediately after a failure",
        detected_by: "backoff",
        also: &[],
        budget: Budget::of_workers(1),
    },
    Saboteur {
        name: "ignores_retry_after",
        misbehavior: Misbehavior::IgnoresRetryAfter,
        description: "retries before the time that Retry-After requested",
        detected_by: "backoff",
        also: &[],
        budget: Budget::of_workers(1),
    },
    Saboteur {
        name: "gives_up_early",
        misbehavior: Misbehavior::GivesUpEarly,
        description: "declares an event dead after two failures",
        detected_by: "dead_letters",
        also: &[],
        budget: Budget::of_workers(1),
    },
    Saboteur {
        name: "always_ready",
        misbehavior: Misbehavior::AlwaysReady,
        description: "responds to `/readyz` with 200 while its database does not respond",
        detected_by: "readiness",
        also: &[],
        budget: Budget::of_outage(),
    },
    Saboteur {
        name: "leaks_sessions",
        misbehavior: Misbehavior::LeaksSessions,
        description: "keeps the database session of each readiness check",
        detected_by: "resources",
        also: &[],
        budget: Budget::of_database(),
    },
    Saboteur {
        name: "keeps_read_only_sessions",
        misbehavior: Misbehavior::KeepsReadOnlySessions,
        description: "keeps a session on which a write was refused as read-only, and never writes on it again",
        detected_by: "liveness",
        also: &[],
        budget: Budget::of_exact(Exact::ReadOnly),
    },
    Saboteur {
        name: "serves_posts_first",
        misbehavior: Misbehavior::ServesPostsFirst,
        description: "keeps its connections to the database for posts, and claims on those that are left",
        detected_by: "availability",
        also: &["backoff"],
        budget: Budget::of_exact(Exact::FewConnections),
    },
    Saboteur {
        name: "stops_long_scans",
        misbehavior: Misbehavior::StopsLongScans,
        description: "claims nothing if a scan of the due events reads more than 150 pages",
        detected_by: "availability",
        also: &["liveness"],
        budget: Budget::of_exact(Exact::HeldHorizon),
    },
    Saboteur {
        name: "fetches_in_turn",
        misbehavior: Misbehavior::FetchesInTurn,
        description: "reads the payloads of claimed events one after the other, before it sends any later one",
        detected_by: "isolation",
        also: &[],
        budget: Budget::of_isolation(MANY, Exact::SlowLink),
    },
    Saboteur {
        name: "sends_in_order",
        misbehavior: Misbehavior::SendsInOrder,
        description: "sends all events in the order of their due times, without a limit per host",
        detected_by: "isolation",
        also: &["backoff", "liveness"],
        budget: Budget::of_isolation(MANY, Exact::DeepBacklog),
    },
    Saboteur {
        name: "waits_for_its_log",
        misbehavior: Misbehavior::WaitsForItsLog,
        description: "settles an attempt only when its line is in the log",
        detected_by: "graceful_stop",
        also: &[],
        budget: Budget::of_exact(Exact::LostLog(LogLoss::Stalled)),
    },
    Saboteur {
        name: "exits_without_its_log",
        misbehavior: Misbehavior::ExitsWithoutItsLog,
        description: "exits if its first line cannot be written",
        detected_by: "graceful_stop",
        also: &[],
        budget: Budget::of_exact(Exact::LostLog(LogLoss::DiskFull)),
    },
];
