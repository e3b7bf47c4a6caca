//! Result of checking a signature: valid, invalid or unchecked, with the reason.
//!
//! `verify.rs` makes these values and receipts contain them.

use serde::{Deserialize, Serialize};

/// Result of checking one request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum SignatureCheck {
    /// One of the secrets signed the request, and its timestamp is recent.
    Valid,
    /// The request is complete and its signature is not valid. The receiver responds 401.
    Invalid {
        /// The first check that failed.
        reason: InvalidReason,
    },
    /// The request is not complete, so its signature was not checked. A sender that is killed
    /// during a request leaves such a receipt, so it is not evidence of a signing fault.
    Unchecked {
        /// The reason why the request is not complete.
        reason: UncheckedReason,
    },
}

impl SignatureCheck {
    /// Returns true if it is [`SignatureCheck::Valid`].
    pub fn is_valid(&self) -> bool {
        matches!(self, Self::Valid)
    }
}

/// Why a signature is not valid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum InvalidReason {
    /// A header is absent or empty.
    #[error("the header {name} is missing")]
    MissingHeader {
        /// Name of the header.
        name: String,
    },
    /// A header is present more than once, so that two readers could use different values.
    #[error("the header {name} is present more than once")]
    RepeatedHeader {
        /// Name of the header.
        name: String,
    },
    /// The timestamp is not a number of unix seconds.
    #[error("the timestamp is not a number of unix seconds")]
    MalformedTimestamp,
    /// The timestamp differs from the receiver's clock by more than the tolerance.
    #[error("the timestamp is {seconds_off} s off")]
    TimestampOff {
        /// The sender's timestamp minus the receiver's clock.
        seconds_off: i64,
    },
    /// No entry of the signature has version `v1`.
    #[error("no signature entry has a known version")]
    NoKnownVersion,
    /// No entry of the signature matches with any secret.
    #[error("no signature entry matches")]
    NoMatch,
}

/// Why a signature was not checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum UncheckedReason {
    /// The request is not well-formed HTTP/1.
    #[error("malformed request")]
    Malformed,
    /// The head exceeds 16 KiB or 64 headers.
    #[error("head too large")]
    HeadTooLarge,
    /// The body exceeds 4 MiB.
    #[error("body too large")]
    BodyTooLarge,
    /// The peer closed the connection before the request was complete.
    #[error("incomplete request")]
    BrokenOff,
    /// The request was not complete after 60 s.
    #[error("request too slow")]
    TooSlow,
}
