//! One receipt: what arrived, what was played, how it ended.

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::behavior::Behavior;
use crate::verify::InvalidReason;

/// What the receiver saw of one request. Times are microseconds since the journal's zero.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The place in the journal, from 1, in the order of begin.
    pub seq: u64,
    /// The receiver's own address: tells the targets apart that share a journal.
    pub receiver: SocketAddr,
    /// The ordinal in the path, when the path carries one.
    pub ordinal: Option<u64>,
    /// The path as it came, query included; empty when the head could not be read.
    pub path: String,
    /// The header `webhook-id`.
    pub webhook_id: Option<String>,
    /// The header `webhook-attempt`. It is not signed: a hint, not evidence.
    pub attempt: Option<u32>,
    /// How many requests with a valid signature came for this ordinal (or id), this one included;
    /// 0 when the signature is not valid.
    pub arrival: u32,
    /// The header `webhook-timestamp`, in unix seconds.
    pub webhook_timestamp: Option<i64>,
    /// The SHA-256 of the exact body as far as it came, in hexadecimal.
    pub sha256: String,
    /// The size of the body as far as it came.
    pub bytes: usize,
    /// The header `content-type`.
    pub content_type: Option<String>,
    /// The header `user-agent`.
    pub user_agent: Option<String>,
    /// What the second opinion says about the signature.
    pub signature: SignatureCheck,
    /// The behavior that was played; none for a refused request.
    pub behavior: Option<Behavior>,
    /// When the head had been read.
    pub head_us: u64,
    /// When the whole request had been read, or was given up: just before the answer begins.
    pub begin_us: u64,
    /// When the request ended.
    pub end_us: Option<u64>,
    /// How it ended; none while it is open.
    pub ending: Option<Ending>,
}

impl Receipt {
    /// Whether the request was properly signed and got a whole 2xx answer: the receiver took it.
    pub fn is_accepted(&self) -> bool {
        self.signature.is_valid() && self.ending.as_ref().is_some_and(Ending::is_success)
    }
}

/// What verification said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum SignatureCheck {
    /// Signed by one of the secrets, and recent.
    Valid,
    /// A whole request that is not properly signed. It was answered with 401.
    Invalid {
        /// Why.
        reason: InvalidReason,
    },
    /// There was no whole request to check: too large, malformed, or broken off by its sender.
    /// A killed sender leaves such receipts; they say nothing about its signing.
    Unchecked {
        /// Why.
        reason: UncheckedReason,
    },
}

impl SignatureCheck {
    /// Whether it is [`SignatureCheck::Valid`].
    pub fn is_valid(&self) -> bool {
        matches!(self, Self::Valid)
    }
}

/// Why a signature could not be checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum UncheckedReason {
    /// The request is not well-formed HTTP/1.
    #[error("malformed request")]
    Malformed,
    /// The head is over its limit.
    #[error("head too large")]
    HeadTooLarge,
    /// The body is over its limit.
    #[error("body too large")]
    BodyTooLarge,
    /// The peer ended the connection before the request was whole.
    #[error("request broken off")]
    BrokenOff,
    /// The request was not whole within its time.
    #[error("request too slow")]
    TooSlow,
}

/// How a request ended, as far as this side can know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "snake_case")]
pub enum Ending {
    /// A whole answer was handed to the network; whether it arrived is not known here.
    Answered {
        /// Its status code.
        status: u16,
    },
    /// A whole answer was handed to the network and the connection was then reset.
    AnsweredThenReset {
        /// Its status code.
        status: u16,
    },
    /// The connection was reset before an answer was whole.
    Reset,
    /// The connection was closed before any byte of an answer.
    Closed,
    /// The connection was closed in the middle of an answer, or after something that is none.
    BrokenOff,
    /// The request hung until the peer closed the connection.
    HungUntilPeerClosed,
    /// The request hung until its bound passed; then the connection was closed.
    HungUntilBound,
    /// The peer was gone before the answer was whole.
    PeerClosed,
    /// The receiver was stopped.
    Stopped,
}

impl Ending {
    /// The status of an answer that was handed to the network whole.
    pub fn whole_status(&self) -> Option<u16> {
        match self {
            Self::Answered { status } | Self::AnsweredThenReset { status } => Some(*status),
            _ => None,
        }
    }

    /// Whether a whole answer with a 2xx status was handed to the network.
    pub fn is_success(&self) -> bool {
        self.whole_status()
            .is_some_and(|status| (200..=299).contains(&status))
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered { status } => write!(formatter, "answered {status}"),
            Self::AnsweredThenReset { status } => {
                write!(formatter, "answered {status}, then reset")
            }
            Self::Reset => formatter.write_str("reset"),
            Self::Closed => formatter.write_str("closed without an answer"),
            Self::BrokenOff => formatter.write_str("closed in the middle of an answer"),
            Self::HungUntilPeerClosed => formatter.write_str("hung until the peer closed"),
            Self::HungUntilBound => formatter.write_str("hung until the bound"),
            Self::PeerClosed => formatter.write_str("peer gone before the answer"),
            Self::Stopped => formatter.write_str("stopped"),
        }
    }
}

/// When an observer is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The request has been read and the behavior is about to be played.
    Begin,
    /// The request has ended.
    End,
}

/// Totals, kept also where no receipts are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Requests begun.
    pub requests: u64,
    /// Requests whose signature is valid.
    pub valid: u64,
    /// Whole requests whose signature is not valid.
    pub invalid: u64,
    /// Requests without a signature that could be checked.
    pub unchecked: u64,
    /// Requests ended.
    pub ended: u64,
    /// Requests that were properly signed and got a whole 2xx answer.
    pub accepted: u64,
}
