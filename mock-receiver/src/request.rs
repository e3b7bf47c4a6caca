//! Reads one request: the head, then the body by length or by chunks. Every part has a limit.
//!
//! Any bytes result in a value, never in a panic: a complete request, or a refusal with the part of
//! the request that was received.

mod body;
mod head;

use std::time::Duration;

use bytes::BytesMut;
use tokio::time::timeout;

pub(crate) use head::Head;

use crate::check::UncheckedReason;
use crate::journal::Journal;
use crate::peer::{Gone, Peer};

/// Time limit for the first byte of the next request.
const IDLE_TIMEOUT: Duration = Duration::from_secs(300);

/// Time limit from the first to the last byte of a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Result of reading from a connection.
pub(crate) enum Incoming {
    /// A complete request.
    Complete(Request),
    /// An incomplete or malformed request. The connection cannot be used again.
    Refused(Request, UncheckedReason),
    /// No request: the peer closed the connection between requests, or the idle time passed.
    Nothing,
}

/// The received part of a request.
#[derive(Default)]
pub(crate) struct Request {
    /// The head. `None` until it is complete and well-formed.
    pub(crate) head: Option<Head>,
    /// Time at which the head was complete, in microseconds since the journal's zero.
    pub(crate) head_us: u64,
    /// The body without the framing of chunks.
    pub(crate) body: BytesMut,
}

/// Reads the next request of a connection.
pub(crate) async fn read(peer: &mut Peer, journal: &Journal) -> Incoming {
    if peer.ahead().is_empty() && !matches!(timeout(IDLE_TIMEOUT, peer.fill()).await, Ok(Ok(()))) {
        return Incoming::Nothing;
    }
    let mut request = Request::default();
    let read = timeout(REQUEST_TIMEOUT, read_complete(peer, journal, &mut request)).await;
    match read.unwrap_or(Err(UncheckedReason::TooSlow)) {
        Ok(()) => Incoming::Complete(request),
        // Line ends after the last request are not a request.
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

async fn read_complete(
    peer: &mut Peer,
    journal: &Journal,
    request: &mut Request,
) -> Result<(), UncheckedReason> {
    let parsed = head::read(peer).await?;
    request.head_us = journal.now_us();
    let head = request.head.insert(parsed.head);
    if head.expects_continue {
        peer.send(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
    }
    body::read(peer, parsed.length, &mut request.body).await
}

fn only_line_ends(peer: &Peer) -> bool {
    peer.ahead().iter().all(|byte| matches!(byte, b'\r' | b'\n'))
}

impl From<Gone> for UncheckedReason {
    fn from(Gone: Gone) -> Self {
        Self::BrokenOff
    }
}
