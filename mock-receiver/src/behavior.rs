//! How the receiver answers: plain data that schedules and journals carry, and its performance on
//! the raw socket.
//!
//! Each behavior is one file with one `play`. A new one needs its file, its variant, its arm in
//! `Behavior::play` here, and its name and row in `form.rs`. A behavior must not look at the
//! request and must not draw: which one a request gets is the script's decision alone.

mod answer;
mod bad_chunking;
mod close_before_answer;
mod drip;
mod endless_body;
mod form;
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
pub use form::BehaviorError;

use crate::journal::Ending;
use crate::peer::{Gone, Peer};
use crate::wire;

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
        #[serde(default = "hang::hold_ms_default")]
        hold_ms: u64,
    },
    /// The head and the first bytes of the body, then silence until the peer closes.
    HangAfterHead {
        /// The status code in the head.
        #[serde(default = "wire::status_default")]
        status: u16,
        /// The bound, in milliseconds.
        #[serde(default = "hang::hold_ms_default")]
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
        #[serde(default = "wire::status_default")]
        status: u16,
    },
    /// The head and half of the announced body, then an orderly close.
    TruncatedBody {
        /// The status code in the head.
        #[serde(default = "wire::status_default")]
        status: u16,
    },
    /// A whole answer, then a reset: the peer may have seen the answer or only the reset.
    ResetAfterAnswer {
        /// The status code.
        #[serde(default = "wire::status_default")]
        status: u16,
        /// The time between answer and reset, in milliseconds.
        #[serde(default)]
        hold_ms: u64,
    },
    /// A whole answer whose body comes one byte at a time.
    Drip {
        /// The status code.
        #[serde(default = "wire::status_default")]
        status: u16,
        /// The size of the body.
        #[serde(default = "drip::bytes_default")]
        bytes: u32,
        /// The time before each byte, in milliseconds.
        #[serde(default = "drip::every_ms_default")]
        every_ms: u64,
    },
    /// A body that does not end while the peer reads.
    EndlessBody {
        /// The status code in the head.
        #[serde(default = "wire::status_default")]
        status: u16,
        /// How the body is framed.
        #[serde(default)]
        framing: Framing,
    },
    /// A chunked body whose second chunk size is not a number.
    BadChunking {
        /// The status code in the head.
        #[serde(default = "wire::status_default")]
        status: u16,
    },
    /// Bytes that are not HTTP, then an orderly close.
    Garbage,
    /// A whole answer under more header bytes than anybody wants.
    HeaderFlood {
        /// The status code.
        #[serde(default = "wire::status_default")]
        status: u16,
        /// The size of the head, at least.
        #[serde(default = "header_flood::bytes_default")]
        bytes: u32,
    },
    /// A whole answer that points elsewhere.
    Redirect {
        /// The status code, 3xx.
        #[serde(default = "redirect::status_default")]
        status: u16,
        /// The `Location` header.
        location: String,
    },
    /// A whole answer whose small gzip body unpacks to 64 MiB.
    GzipBomb {
        /// The status code.
        #[serde(default = "wire::status_default")]
        status: u16,
    },
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
