//! The ops of a receiver: requests that began and ended.

use serde::{Deserialize, Serialize};

/// The scripted behavior of a receiver for a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scripted {
    /// Kind of the behavior, with its status if it has one.
    pub what: String,
    /// Delay before the response, in milliseconds.
    pub after_ms: u64,
    /// `Retry-After` of the response, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_s: Option<u64>,
}

/// A request began at a receiver.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecvBegin {
    /// Name of the request: unique in the run, and begins with its receiver, as in `r0-17`.
    pub req: String,
    /// Ordinal in the path.
    pub ordinal: Option<u64>,
    /// Value of `webhook-id`.
    pub id: Option<String>,
    /// Value of `webhook-attempt`.
    pub attempt: Option<u32>,
    /// URL of the request.
    pub target: String,
    /// SHA-256 of the exact bytes of the body, in hex.
    pub sha256: String,
    /// `valid`, or the reason why the signature is not.
    pub sig: String,
    /// Scripted behavior; none for a malformed request.
    pub scripted: Option<Scripted>,
}

impl RecvBegin {
    /// The receiver that got the request, from 0.
    #[must_use]
    pub fn receiver(&self) -> Option<u32> {
        let name = self.req.split('-').next()?;
        name.strip_prefix('r')?.parse().ok()
    }

    /// Returns false for an interrupted request, whose body and signature cannot be checked.
    pub fn is_whole(&self) -> bool {
        !self.sig.starts_with(SIG_UNCHECKED)
    }
}

/// The `sig` of a request whose signature is valid.
pub const SIG_VALID: &str = "valid";
/// Prefix of the `sig` of a request that could not be checked.
pub const SIG_UNCHECKED: &str = "unchecked";

/// A request ended at a receiver.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecvEnd {
    /// Name of the request.
    pub req: String,
    /// Ordinal in the path.
    pub ordinal: Option<u64>,
    /// Status of the response, if it was written completely.
    pub status: Option<u16>,
    /// The ending: `answered`, or the interruption.
    pub how: String,
}

impl RecvEnd {
    /// Returns true if a complete 2xx was written.
    pub fn is_success(&self) -> bool {
        self.status.is_some_and(|status| (200..300).contains(&status))
    }
}

/// The `how` of a request whose response was written completely.
pub const ANSWERED: &str = "answered";
/// The `how` of a request whose response was written completely before a reset.
pub const ANSWERED_THEN_RESET: &str = "answered_then_reset";
/// The `how` of a request whose sender closed the connection.
pub const PEER_CLOSED: &str = "peer_closed";
