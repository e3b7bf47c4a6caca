//! The words of one event: its id, its states, what an attempt's outcome was and what follows from it.
//!
//! Pure data and the legal transitions between states; no IO, no clock, no database types.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

/// The id of an event: a UUID v7, made when the event is accepted, the same on every attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId(pub Uuid);

impl EventId {
    /// A fresh id, ordered by the time of its making.
    pub fn fresh() -> Self {
        Self(Uuid::now_v7())
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What fences a claim: unique per claim, never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseToken(pub Uuid);

/// The number by which a worker process is known to the others: random, 63 bits, never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(pub i64);

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// An event that passed validation and is to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEvent {
    /// The id it gets.
    pub id: EventId,
    /// The client's own bytes of the JSON value.
    pub payload: Vec<u8>,
    /// Where it goes.
    pub target: Target,
    /// The client's `Idempotency-Key`, if any.
    pub idempotency_key: Option<String>,
}

/// Where an event goes, and whether the client said so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// `target_url` of the request, character by character.
    Given(String),
    /// The setting `TARGET_URL` at the time of the request.
    Default(String),
}

impl Target {
    /// The URL itself.
    pub fn url(&self) -> &str {
        match self {
            Self::Given(url) | Self::Default(url) => url,
        }
    }

    /// Whether the client named it.
    pub fn is_given(&self) -> bool {
        matches!(self, Self::Given(_))
    }
}

/// An attempt that a worker holds: one event under one lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Which event, under which token, as which attempt.
    pub key: ClaimKey,
    /// Settled failures so far in this round.
    pub failure_count: u32,
    /// Where it goes.
    pub target_url: String,
    /// The exact bytes to send.
    pub payload: Vec<u8>,
}

/// What names a claim in a settle or a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClaimKey {
    /// The event.
    pub id: EventId,
    /// The fence.
    pub token: LeaseToken,
    /// The attempt's number, from 1.
    pub number: u32,
}

/// What the wire said about one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A whole answer with a status of 200 to 299.
    Delivered {
        /// The status.
        status: u16,
    },
    /// A whole answer with any other status, redirects too.
    Rejected {
        /// The status.
        status: u16,
        /// What `Retry-After` asked for, counted from the end of the attempt.
        retry_after: Option<Duration>,
    },
    /// No whole answer within the deadline.
    Timeout,
    /// The name did not resolve.
    Dns,
    /// No connection could be made.
    Connect,
    /// The TLS handshake failed.
    Tls,
    /// The connection ended before the first byte of an answer.
    Reset,
    /// The answer broke off or was malformed.
    Body,
    /// The answer was longer than `MAX_RESPONSE_BYTES`.
    ResponseTooLarge {
        /// The status that came before the body.
        status: u16,
    },
    /// Every address of the target is in a refused range.
    TargetRefused,
}

impl Outcome {
    /// The word for it in rows, answers and logs.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Delivered { .. } => "delivered",
            Self::Rejected { .. } => "rejected",
            Self::Timeout => "timeout",
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Reset => "reset",
            Self::Body => "body",
            Self::ResponseTooLarge { .. } => "response_too_large",
            Self::TargetRefused => "target_refused",
        }
    }

    /// The HTTP status, where an answer had one.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Delivered { status }
            | Self::Rejected { status, .. }
            | Self::ResponseTooLarge { status } => Some(*status),
            _ => None,
        }
    }
}

/// What an attempt left behind: the outcome and what an operator wants to see of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptResult {
    /// What the wire said.
    pub outcome: Outcome,
    /// What went wrong, in words; none for a whole answer.
    pub error: Option<String>,
    /// The first bytes of the body, at most `RESPONSE_SNIPPET_BYTES`.
    pub snippet: Option<Vec<u8>>,
}

impl AttemptResult {
    /// An answer without a body.
    pub fn failed(outcome: Outcome, error: impl Into<String>) -> Self {
        Self {
            outcome,
            error: Some(error.into()),
            snippet: None,
        }
    }
}

/// What becomes of the event after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// Done.
    Delivered,
    /// Due again this long after the settle.
    RetryAfter(Duration),
    /// Never sent again.
    Dead(Reason),
}

/// Why an event is dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// `MAX_ATTEMPTS` settled failures in the round.
    Exhausted,
    /// The target answered 410.
    Gone,
    /// `MAX_ABANDONED` attempts in a row whose holder vanished.
    Abandoned,
}

impl Reason {
    /// The word for it in rows and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exhausted => "exhausted",
            Self::Gone => "gone",
            Self::Abandoned => "abandoned",
        }
    }
}

/// The end of an attempt, ready to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// Whose.
    pub key: ClaimKey,
    /// What the wire said.
    pub result: AttemptResult,
    /// What follows.
    pub disposition: Disposition,
    /// When the attempt began, on the database's clock.
    pub started_at: DateTime<Utc>,
    /// How long it took.
    pub duration: Duration,
}

/// What the store made of one settlement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// Written now.
    Now,
    /// Written by an earlier try whose reply was lost.
    Already,
    /// The lease was somebody else's or ended: nothing was changed.
    LeaseLost,
}

/// A claim that goes back unsent: it burns no attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Release {
    /// Whose.
    pub key: ClaimKey,
    /// Due again this long after the release.
    pub delay: Duration,
}
