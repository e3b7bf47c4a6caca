//! How the receiver answers: plain data that schedules and journals carry, and its performance on
//! the raw socket.
//!
//! Each behavior is one file with one `play`. A new one needs its file, its variant, its arm in
//! [`Behavior::play`] and its row in [`Behavior::CATALOG`]. A behavior must not look at the request
//! and must not draw: which one a request gets is the script's decision alone.

mod answer;
mod bad_chunking;
mod close_before_answer;
mod drip;
mod endless_body;
mod garbage;
mod gzip_bomb;
mod hang;
mod hang_after_head;
mod header_flood;
mod partial_head;
mod redirect;
mod reset_after_answer;
mod reset_before_answer;
mod reset_mid_body;
mod truncated_body;

use serde::{Deserialize, Serialize};

pub use answer::RetryAfter;
pub use endless_body::Framing;

use crate::journal::Ending;
use crate::peer::{Gone, Peer};

/// What the receiver does with one request whose signature is valid.
///
/// The JSON form names the kind: `{"kind":"answer","status":500,"after_ms":0}`. Parameters that
/// have a sensible default may be left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Behavior {
    /// A whole answer with this status, after a delay.
    Answer {
        /// The status code.
        status: u16,
        /// The `Retry-After` header, when there is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after: Option<RetryAfter>,
        /// The delay before the first byte, in milliseconds.
        #[serde(default)]
        after_ms: u64,
    },
    /// No byte of an answer; the connection is held until the peer closes it or the bound passes.
    Hang {
        /// The bound, in milliseconds.
        #[serde(default = "default_hold_ms")]
        hold_ms: u64,
    },
    /// The head and the first bytes of the body, then silence until the peer closes.
    HangAfterHead {
        /// The status code in the head.
        #[serde(default = "default_status")]
        status: u16,
        /// The bound, in milliseconds.
        #[serde(default = "default_hold_ms")]
        hold_ms: u64,
    },
    /// The connection is reset before any byte of an answer.
    ResetBeforeAnswer {
        /// The delay before the reset, in milliseconds.
        #[serde(default)]
        after_ms: u64,
    },
    /// The connection is closed in an orderly way before any byte of an answer.
    CloseBeforeAnswer {
        /// The delay before the close, in milliseconds.
        #[serde(default)]
        after_ms: u64,
    },
    /// Half of a head, then an orderly close.
    PartialHead,
    /// The head and half of the announced body, then a reset.
    ResetMidBody {
        /// The status code in the head.
        #[serde(default = "default_status")]
        status: u16,
    },
    /// The head and half of the announced body, then an orderly close.
    TruncatedBody {
        /// The status code in the head.
        #[serde(default = "default_status")]
        status: u16,
    },
    /// A whole answer, then a reset: the peer may have seen the answer or only the reset.
    ResetAfterAnswer {
        /// The status code.
        #[serde(default = "default_status")]
        status: u16,
        /// The time between answer and reset, in milliseconds.
        #[serde(default)]
        hold_ms: u64,
    },
    /// A whole answer whose body comes one byte at a time.
    Drip {
        /// The status code.
        #[serde(default = "default_status")]
        status: u16,
        /// The size of the body.
        #[serde(default = "default_drip_bytes")]
        bytes: u32,
        /// The time before each byte, in milliseconds.
        #[serde(default = "default_drip_every_ms")]
        every_ms: u64,
    },
    /// A body that does not end while the peer reads.
    EndlessBody {
        /// The status code in the head.
        #[serde(default = "default_status")]
        status: u16,
        /// How the body is framed.
        #[serde(default)]
        framing: Framing,
    },
    /// A chunked body whose second chunk size is not a number.
    BadChunking {
        /// The status code in the head.
        #[serde(default = "default_status")]
        status: u16,
    },
    /// Bytes that are not HTTP, then an orderly close.
    Garbage,
    /// A whole answer under more header bytes than anybody wants.
    HeaderFlood {
        /// The status code.
        #[serde(default = "default_status")]
        status: u16,
        /// The size of the head, at least.
        #[serde(default = "default_flood_bytes")]
        bytes: u32,
    },
    /// A whole answer that points elsewhere.
    Redirect {
        /// The status code, 3xx.
        #[serde(default = "default_redirect_status")]
        status: u16,
        /// The `Location` header.
        location: String,
    },
    /// A whole answer whose small gzip body unpacks to 64 MiB.
    GzipBomb {
        /// The status code.
        #[serde(default = "default_status")]
        status: u16,
    },
}

/// A text that names no behavior, or one with a parameter out of its limits.
#[derive(Debug, thiserror::Error)]
pub enum BehaviorError {
    /// Not the JSON form of a behavior.
    #[error("not a behavior: {0}")]
    Syntax(#[from] serde_json::Error),
    /// The status code has no three digits.
    #[error("status {0} is not within 100..=999")]
    Status(u16),
    /// A header value that would break out of its line.
    #[error("header value {0:?} has a character that a header cannot carry")]
    Header(String),
}

/// How a behavior left its request and its connection.
pub(crate) struct Played {
    pub(crate) ending: Ending,
    pub(crate) next: Next,
}

/// What becomes of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// It serves the next request.
    Again,
    /// It is closed in an orderly way.
    Close,
    /// It is reset.
    Reset,
}

impl Played {
    pub(crate) fn answered(status: u16) -> Self {
        Self {
            ending: Ending::Answered { status },
            next: Next::Again,
        }
    }

    pub(crate) fn closing(ending: Ending) -> Self {
        Self {
            ending,
            next: Next::Close,
        }
    }

    pub(crate) fn resetting(ending: Ending) -> Self {
        Self {
            ending,
            next: Next::Reset,
        }
    }
}

impl Behavior {
    /// Every kind with one line that says what it does on the wire.
    pub const CATALOG: [(&'static str, &'static str); 16] = [
        (
            "answer",
            "a whole answer with a status, after a delay, with Retry-After if asked",
        ),
        ("hang", "no byte of an answer; holds the connection"),
        (
            "hang_after_head",
            "the head and a few bytes of the body, then silence",
        ),
        (
            "reset_before_answer",
            "resets the connection before any byte",
        ),
        (
            "close_before_answer",
            "closes the connection before any byte",
        ),
        ("partial_head", "half of a head, then a close"),
        (
            "reset_mid_body",
            "the head and half of the body, then a reset",
        ),
        (
            "truncated_body",
            "the head and half of the body, then a close",
        ),
        ("reset_after_answer", "a whole answer, then a reset"),
        ("drip", "a body that comes one byte at a time"),
        (
            "endless_body",
            "a body without end, chunked or without a length",
        ),
        ("bad_chunking", "a chunked body with a broken chunk size"),
        ("garbage", "bytes that are not HTTP, then a close"),
        ("header_flood", "an answer under a head of a megabyte"),
        ("redirect", "an answer that points elsewhere"),
        ("gzip_bomb", "a small gzip body that unpacks to 64 MiB"),
    ];

    /// A whole answer with `status` at once.
    pub fn answer(status: u16) -> Self {
        Self::Answer {
            status,
            retry_after: None,
            after_ms: 0,
        }
    }

    /// Reads the JSON form.
    ///
    /// # Errors
    ///
    /// When the text is no behavior or a parameter could not be put on the wire.
    pub fn parse(text: &str) -> Result<Self, BehaviorError> {
        let behavior: Self = serde_json::from_str(text)?;
        behavior.validate()?;
        Ok(behavior)
    }

    /// Checks what the type cannot: statuses have three digits, header values stay on their line.
    ///
    /// # Errors
    ///
    /// Names the first parameter that could not be put on the wire.
    pub fn validate(&self) -> Result<(), BehaviorError> {
        if let Some(status) = self.status()
            && !(100..=999).contains(&status)
        {
            return Err(BehaviorError::Status(status));
        }
        let header = match self {
            Self::Redirect { location, .. } => Some(location),
            Self::Answer {
                retry_after: Some(RetryAfter::Text(text)),
                ..
            } => Some(text),
            _ => None,
        };
        match header {
            Some(text) if text.chars().any(char::is_control) => {
                Err(BehaviorError::Header(text.clone()))
            }
            _ => Ok(()),
        }
    }

    /// The name of the kind, as in the JSON form.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Answer { .. } => "answer",
            Self::Hang { .. } => "hang",
            Self::HangAfterHead { .. } => "hang_after_head",
            Self::ResetBeforeAnswer { .. } => "reset_before_answer",
            Self::CloseBeforeAnswer { .. } => "close_before_answer",
            Self::PartialHead => "partial_head",
            Self::ResetMidBody { .. } => "reset_mid_body",
            Self::TruncatedBody { .. } => "truncated_body",
            Self::ResetAfterAnswer { .. } => "reset_after_answer",
            Self::Drip { .. } => "drip",
            Self::EndlessBody { .. } => "endless_body",
            Self::BadChunking { .. } => "bad_chunking",
            Self::Garbage => "garbage",
            Self::HeaderFlood { .. } => "header_flood",
            Self::Redirect { .. } => "redirect",
            Self::GzipBomb { .. } => "gzip_bomb",
        }
    }

    /// The status code that goes on the wire, when one does.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Answer { status, .. }
            | Self::HangAfterHead { status, .. }
            | Self::ResetMidBody { status }
            | Self::TruncatedBody { status }
            | Self::ResetAfterAnswer { status, .. }
            | Self::Drip { status, .. }
            | Self::EndlessBody { status, .. }
            | Self::BadChunking { status }
            | Self::HeaderFlood { status, .. }
            | Self::Redirect { status, .. }
            | Self::GzipBomb { status } => Some(*status),
            Self::Hang { .. }
            | Self::ResetBeforeAnswer { .. }
            | Self::CloseBeforeAnswer { .. }
            | Self::PartialHead
            | Self::Garbage => None,
        }
    }

    /// Plays the behavior. A peer that goes away in the middle is an ending, not an error.
    pub(crate) async fn play(&self, peer: &mut Peer) -> Played {
        let played: Result<Played, Gone> = match self {
            Self::Answer {
                status,
                retry_after,
                after_ms,
            } => answer::play(peer, *status, retry_after.as_ref(), *after_ms).await,
            Self::Hang { hold_ms } => hang::play(peer, *hold_ms).await,
            Self::HangAfterHead { status, hold_ms } => {
                hang_after_head::play(peer, *status, *hold_ms).await
            }
            Self::ResetBeforeAnswer { after_ms } => {
                reset_before_answer::play(peer, *after_ms).await
            }
            Self::CloseBeforeAnswer { after_ms } => {
                close_before_answer::play(peer, *after_ms).await
            }
            Self::PartialHead => partial_head::play(peer).await,
            Self::ResetMidBody { status } => reset_mid_body::play(peer, *status).await,
            Self::TruncatedBody { status } => truncated_body::play(peer, *status).await,
            Self::ResetAfterAnswer { status, hold_ms } => {
                reset_after_answer::play(peer, *status, *hold_ms).await
            }
            Self::Drip {
                status,
                bytes,
                every_ms,
            } => drip::play(peer, *status, *bytes, *every_ms).await,
            Self::EndlessBody { status, framing } => {
                endless_body::play(peer, *status, *framing).await
            }
            Self::BadChunking { status } => bad_chunking::play(peer, *status).await,
            Self::Garbage => garbage::play(peer).await,
            Self::HeaderFlood { status, bytes } => header_flood::play(peer, *status, *bytes).await,
            Self::Redirect { status, location } => redirect::play(peer, *status, location).await,
            Self::GzipBomb { status } => gzip_bomb::play(peer, *status).await,
        };
        played.unwrap_or_else(|Gone| Played::closing(Ending::PeerClosed))
    }
}

fn default_status() -> u16 {
    200
}

fn default_redirect_status() -> u16 {
    307
}

fn default_hold_ms() -> u64 {
    hang::HOLD_MS_DEFAULT
}

fn default_drip_bytes() -> u32 {
    drip::BYTES_DEFAULT
}

fn default_drip_every_ms() -> u64 {
    drip::EVERY_MS_DEFAULT
}

fn default_flood_bytes() -> u32 {
    header_flood::BYTES_DEFAULT
}
