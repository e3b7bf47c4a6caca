//! Data types of events, claims and attempts, shared by the API, the worker, the store and the
//! transport.
//!
//! Pure data: no IO, no clock and no database types.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};
use rand::{Rng, RngExt};
use serde::Serialize;
use uuid::Uuid;

/// Id of an event: a UUID v7 that is drawn when the event is accepted. It is equal on every
/// attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct EventId(pub Uuid);

impl EventId {
    /// Returns a new id. Ids are ordered by the time of this call.
    pub fn fresh() -> Self {
        Self(Uuid::now_v7())
    }
}

impl From<Uuid> for EventId {
    fn from(id: Uuid) -> Self {
        Self(id)
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Fences a claim. Each claim has a new token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseToken(pub Uuid);

impl LeaseToken {
    /// Draws a token.
    pub fn random(rng: &mut impl Rng) -> Self {
        Self(uuid::Builder::from_random_bytes(rng.random()).into_uuid())
    }
}

/// The worker of a lease and the time that it lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseHolder {
    /// The worker.
    pub worker: WorkerId,
    /// `LEASE_SECONDS`.
    pub lease: Duration,
}

/// Number of a worker process: random, 63 bits, never zero. The database column is `holder`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(pub i64);

impl WorkerId {
    /// Draws an id. A process id would not be unique: it repeats when a container restarts.
    pub fn random(rng: &mut impl Rng) -> Self {
        Self(rng.random_range(1..=i64::MAX))
    }
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A validated event, before it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEvent {
    /// The id under which it is stored, unless an equal event has the same idempotency key.
    pub id: EventId,
    /// The JSON value, byte for byte as the client sent it.
    pub payload: Vec<u8>,
    /// The URL and its origin.
    pub target: Target,
    /// `Idempotency-Key` of the request.
    pub idempotency_key: Option<String>,
}

/// The target of an event and its origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// `target_url` of the request, unchanged.
    Given(String),
    /// The value of the setting `TARGET_URL` at the time of the request.
    Default(String),
}

impl Target {
    /// Returns the URL.
    pub fn url(&self) -> &str {
        match self {
            Self::Given(url) | Self::Default(url) => url,
        }
    }

    /// Returns true if the request contained `target_url`.
    pub fn is_given(&self) -> bool {
        matches!(self, Self::Given(_))
    }
}

/// An attempt that is assigned to a worker: one event under one lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Identifies the claim.
    pub key: ClaimKey,
    /// Settled failures in this round.
    pub failure_count: u32,
    /// The URL of the attempt.
    pub target_url: String,
    /// The request body. Empty if it is large and must be fetched separately.
    pub payload: Vec<u8>,
    /// Size of a payload that must be fetched, in bytes, else 0.
    pub unfetched: usize,
}

/// Identifies a claim in a settle or a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClaimKey {
    /// The claimed event.
    pub id: EventId,
    /// The lease token of the claim.
    pub token: LeaseToken,
    /// Number of the attempt, from 1.
    pub number: u32,
}

/// The classified result of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A complete response with status 200 to 299.
    Delivered {
        /// HTTP status.
        status: u16,
    },
    /// A complete response with any other status, including redirects.
    Rejected {
        /// HTTP status.
        status: u16,
        /// The delay that `Retry-After` requested, from the end of the attempt.
        retry_after: Option<Duration>,
    },
    /// No complete response before the deadline.
    Timeout,
    /// The host name was not resolved.
    Dns,
    /// The connection failed.
    Connect,
    /// The TLS handshake failed.
    Tls,
    /// The connection ended before the first byte of a response.
    Reset,
    /// The response was cut off or malformed.
    Body,
    /// The response body exceeded `MAX_RESPONSE_BYTES`.
    ResponseTooLarge {
        /// HTTP status, which precedes the body.
        status: u16,
    },
    /// All addresses of the target are in refused ranges.
    TargetRefused,
}

impl Outcome {
    /// Returns the word for the outcome in rows, responses and logs.
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

    /// Returns the HTTP status if a response had one.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Delivered { status }
            | Self::Rejected { status, .. }
            | Self::ResponseTooLarge { status } => Some(*status),
            _ => None,
        }
    }
}

/// The outcome of an attempt and its details for operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptResult {
    /// The classified result.
    pub outcome: Outcome,
    /// Description of the failure. `None` for a complete response, unless its `Retry-After` was
    /// cut.
    pub error: Option<String>,
    /// The first bytes of the response body, at most `RESPONSE_SNIPPET_BYTES`.
    pub snippet: Option<Vec<u8>>,
}

impl AttemptResult {
    /// A failure without a response body.
    pub fn failed(outcome: Outcome, error: impl Into<String>) -> Self {
        Self { outcome, error: Some(error.into()), snippet: None }
    }
}

/// The decision after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// The event is delivered.
    Delivered,
    /// The event is due again after this delay, counted from the settle.
    RetryAfter(Duration),
    /// The event is dead and is not sent again.
    Dead(Reason),
}

/// Why an event is dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// `MAX_ATTEMPTS` settled failures in the round.
    Exhausted,
    /// The target responded with 410.
    Gone,
    /// `MAX_ABANDONED` consecutive attempts were abandoned.
    Abandoned,
}

impl Reason {
    /// Returns the word for the reason in rows and responses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exhausted => "exhausted",
            Self::Gone => "gone",
            Self::Abandoned => "abandoned",
        }
    }
}

/// An ended attempt and its disposition, as settle writes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// The claim that this settlement ends.
    pub key: ClaimKey,
    /// The outcome and its details.
    pub result: AttemptResult,
    /// The decision that follows from the outcome.
    pub disposition: Disposition,
    /// Start of the attempt, by the clock of the database.
    pub started_at: DateTime<Utc>,
    /// Duration of the attempt.
    pub duration: Duration,
}

/// The effect of one settlement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// This settle wrote it.
    Now,
    /// This settle wrote it without an attempt row, because the attempt number exists already.
    Unrecorded,
    /// An earlier settle wrote it, and its reply was lost.
    Already,
    /// The lease had ended, so nothing was changed.
    LeaseLost,
}

/// A claim that is returned without an attempt. It does not count as an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Release {
    /// The claim that ends.
    pub key: ClaimKey,
    /// Delay until the event is due again, counted from the release.
    pub delay: Duration,
}
