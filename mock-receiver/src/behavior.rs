//! Behaviors: plain data in schedules and journals, and the responses on the raw socket.
//!
//! Each behavior is one file with one `play`. A new one needs its file, a variant and an arm of
//! `Behavior::play` here, and its name and description in `form.rs`. A behavior must not read the
//! request and must not draw, because only the script chooses the behavior of a request.

mod answer;
pub(crate) mod answer_then;
mod bad_chunking;
mod close_before_answer;
mod drip;
mod endless_body;
pub(crate) mod form;
mod garbage;
mod gzip_bomb;
mod hang;
mod hang_after_head;
mod header_flood;
mod partial_head;
pub(crate) mod played;
mod redirect;
mod reset_after_answer;
mod reset_before_answer;
mod reset_mid_body;
mod truncated_body;

use serde::{Deserialize, Serialize};

pub use answer::RetryAfter;
pub use endless_body::Framing;
pub use played::Then;

use crate::ending::Ending;
use crate::peer::{Gone, Peer};
use crate::wire;
use played::Played;

/// Response of the receiver to one request with a valid signature.
///
/// The JSON form contains the kind: `{"kind":"answer","status":500,"after_ms":0}`. Parameters with
/// a default may be absent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Behavior {
    /// A complete response after a delay.
    Answer {
        /// Status code of the response.
        status: u16,
        /// Value of the header `Retry-After`. `None` omits the header.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after: Option<RetryAfter>,
        /// Delay before the first byte, in milliseconds.
        #[serde(default)]
        after_ms: u64,
    },
    /// A complete response that keeps the connection, and then a step that no sender expects.
    AnswerThen {
        /// Status code of the response.
        #[serde(default = "wire::status_default")]
        status: u16,
        /// Value of the header `Retry-After`. `None` omits the header.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after: Option<RetryAfter>,
        /// Delay before the first byte, in milliseconds.
        #[serde(default)]
        after_ms: u64,
        /// The step.
        then: Then,
        /// Time between the response and the step, in milliseconds.
        #[serde(default)]
        then_ms: u64,
    },
    /// No response. The connection stays open until the peer closes it or the time limit passes.
    Hang {
        /// Time limit in milliseconds.
        #[serde(default = "hang::hold_ms_default")]
        hold_ms: u64,
    },
    /// The head and the first bytes of the body, then no more bytes until the peer closes the
    /// connection or the time limit passes.
    HangAfterHead {
        /// Status code in the head.
        #[serde(default = "wire::status_default")]
        status: u16,
        /// Time limit in milliseconds.
        #[serde(default = "hang::hold_ms_default")]
        hold_ms: u64,
    },
    /// A reset before the first byte of a response.
    ResetBeforeAnswer {
        /// Delay before the reset, in milliseconds.
        #[serde(default)]
        after_ms: u64,
    },
    /// An orderly close before the first byte of a response.
    CloseBeforeAnswer {
        /// Delay before the close, in milliseconds.
        #[serde(default)]
        after_ms: u64,
    },
    /// Half of a head, then an orderly close.
    PartialHead,
    /// The head and half of the body, then a reset.
    ResetMidBody {
        /// Status code in the head.
        #[serde(default = "wire::status_default")]
        status: u16,
    },
    /// The head and half of the body, then an orderly close.
    TruncatedBody {
        /// Status code in the head.
        #[serde(default = "wire::status_default")]
        status: u16,
    },
    /// A complete response, then a reset. The peer may receive the response or only the reset.
    ResetAfterAnswer {
        /// Status code of the response.
        #[serde(default = "wire::status_default")]
        status: u16,
        /// Time between response and reset, in milliseconds.
        #[serde(default)]
        hold_ms: u64,
    },
    /// A complete response whose body is sent one byte at a time.
    Drip {
        /// Status code of the response.
        #[serde(default = "wire::status_default")]
        status: u16,
        /// Size of the body in bytes.
        #[serde(default = "drip::bytes_default")]
        bytes: u32,
        /// Delay before each byte, in milliseconds.
        #[serde(default = "drip::every_ms_default")]
        every_ms: u64,
    },
    /// A body that continues while the peer reads, up to 10 GiB.
    EndlessBody {
        /// Status code in the head.
        #[serde(default = "wire::status_default")]
        status: u16,
        /// Framing of the body.
        #[serde(default)]
        framing: Framing,
    },
    /// A chunked body whose second chunk size is not a number.
    BadChunking {
        /// Status code in the head.
        #[serde(default = "wire::status_default")]
        status: u16,
    },
    /// Bytes that are not HTTP, then an orderly close.
    Garbage,
    /// A complete response with a very large head.
    HeaderFlood {
        /// Status code of the response.
        #[serde(default = "wire::status_default")]
        status: u16,
        /// Minimum size of the head in bytes.
        #[serde(default = "header_flood::bytes_default")]
        bytes: u32,
    },
    /// A complete response that redirects.
    Redirect {
        /// Status code of the response, usually 3xx.
        #[serde(default = "redirect::status_default")]
        status: u16,
        /// Value of the header `Location`.
        location: String,
    },
    /// A complete response with a 64 KiB gzip body that decompresses to 64 MiB.
    GzipBomb {
        /// Status code of the response.
        #[serde(default = "wire::status_default")]
        status: u16,
    },
}

impl Behavior {
    /// Sends the response. If the peer closes the connection first, that is an ending, not an
    /// error.
    pub(crate) async fn play(&self, peer: &mut Peer) -> Played {
        let played: Result<Played, Gone> = match self {
            Self::Answer { status, retry_after, after_ms } => {
                answer::play(peer, *status, retry_after.as_ref(), *after_ms).await
            }
            Self::AnswerThen { status, retry_after, after_ms, then, then_ms } => {
                let answer = (*status, retry_after.as_ref(), *after_ms);
                answer_then::play(peer, answer, *then, *then_ms).await
            }
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
            Self::Drip { status, bytes, every_ms } => {
                drip::play(peer, *status, *bytes, *every_ms).await
            }
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
