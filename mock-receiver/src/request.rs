//! Reading one request: head, then body by length or by chunks, every part bounded.
//!
//! Whatever arrives becomes a value, never a panic: a whole request, or a refusal that keeps as
//! much of the request as came.

mod body;
mod head;

use std::time::Duration;

use bytes::BytesMut;
use tokio::time::timeout;

pub(crate) use head::Head;

use crate::journal::{Journal, UncheckedReason};
use crate::peer::{Gone, Peer};

/// How long a connection may wait for its next request.
const IDLE_MAX: Duration = Duration::from_secs(300);

/// How long one request may take from its first byte to its last.
const REQUEST_MAX: Duration = Duration::from_secs(60);

/// The largest head, and the largest chunk line or trailer.
pub(crate) const HEAD_BYTES_MAX: usize = 16 * 1024;

/// The largest body: four times what a dispatcher accepts by default.
pub(crate) const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What came over the connection.
pub(crate) enum Incoming {
    /// A whole request.
    Whole(Request),
    /// Something that is no whole request; the connection is of no further use.
    Refused(Request, UncheckedReason),
    /// Nothing: the peer closed between requests, or stayed silent for too long.
    Nothing,
}

/// A request as far as it came.
#[derive(Default)]
pub(crate) struct Request {
    /// The head, once it was whole and well-formed.
    pub(crate) head: Option<Head>,
    /// When the head had been read.
    pub(crate) head_us: u64,
    /// The body with the chunks' framing removed.
    pub(crate) body: BytesMut,
}

/// Reads the next request.
pub(crate) async fn read(peer: &mut Peer, journal: &Journal) -> Incoming {
    if peer.ahead().is_empty() && !matches!(timeout(IDLE_MAX, peer.fill()).await, Ok(Ok(()))) {
        return Incoming::Nothing;
    }
    let mut request = Request::default();
    let read = timeout(REQUEST_MAX, read_whole(peer, journal, &mut request)).await;
    match read.unwrap_or(Err(UncheckedReason::TooSlow)) {
        Ok(()) => Incoming::Whole(request),
        // Stray line ends after the last request are no request.
        Err(UncheckedReason::BrokenOff) if request.head.is_none() && only_line_ends(peer) => {
            Incoming::Nothing
        }
        Err(reason) => {
            if request.head.is_none() {
                request.head_us = journal.now_us();
            }
            Incoming::Refused(request, reason)
        }
    }
}

async fn read_whole(
    peer: &mut Peer,
    journal: &Journal,
    request: &mut Request,
) -> Result<(), UncheckedReason> {
    let (head, length) = head::read(peer).await?;
    request.head_us = journal.now_us();
    let head = request.head.insert(head);
    if head.expects_continue {
        peer.send(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
    }
    body::read(peer, length, &mut request.body).await
}

fn only_line_ends(peer: &Peer) -> bool {
    peer.ahead()
        .iter()
        .all(|byte| matches!(byte, b'\r' | b'\n'))
}

impl From<Gone> for UncheckedReason {
    fn from(Gone: Gone) -> Self {
        Self::BrokenOff
    }
}
