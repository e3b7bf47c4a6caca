//! The body of a request, by its length or by its chunks.

use bytes::BytesMut;
use httparse::Status;

use super::{BODY_BYTES_MAX, HEAD_BYTES_MAX};
use crate::journal::UncheckedReason;
use crate::peer::Peer;

/// How long the body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    None,
    Bytes(u64),
    Chunked,
}

impl Length {
    /// Takes a `Content-Length`; two that differ, or one beside chunks, is an attack or a mistake.
    pub(super) fn set_content_length(&mut self, value: &[u8]) -> Result<(), UncheckedReason> {
        if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
            return Err(UncheckedReason::Malformed);
        }
        let bytes = std::str::from_utf8(value)
            .ok()
            .and_then(|text| text.parse().ok());
        // More digits than 64 bits hold is a well-formed number that is too large.
        let length = Self::Bytes(bytes.unwrap_or(u64::MAX));
        if *self != Self::None && *self != length {
            return Err(UncheckedReason::Malformed);
        }
        *self = length;
        Ok(())
    }

    /// Takes a `Transfer-Encoding`; only `chunked` is understood.
    pub(super) fn set_transfer_encoding(&mut self, value: &[u8]) -> Result<(), UncheckedReason> {
        if *self != Self::None || !value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
            return Err(UncheckedReason::Malformed);
        }
        *self = Self::Chunked;
        Ok(())
    }
}

/// Reads the body into `body`, which keeps what came when the reading fails.
pub(super) async fn read(
    peer: &mut Peer,
    length: Length,
    body: &mut BytesMut,
) -> Result<(), UncheckedReason> {
    match length {
        Length::None => Ok(()),
        Length::Bytes(bytes) => {
            let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
            if bytes > BODY_BYTES_MAX {
                return Err(UncheckedReason::BodyTooLarge);
            }
            move_bytes(peer, bytes, body).await
        }
        Length::Chunked => read_chunks(peer, body).await,
    }
}

async fn read_chunks(peer: &mut Peer, body: &mut BytesMut) -> Result<(), UncheckedReason> {
    loop {
        let size = read_chunk_size(peer).await?;
        if size == 0 {
            return skip_trailers(peer).await;
        }
        if size > BODY_BYTES_MAX - body.len() {
            return Err(UncheckedReason::BodyTooLarge);
        }
        move_bytes(peer, size, body).await?;
        if read_line(peer).await? != 0 {
            return Err(UncheckedReason::Malformed);
        }
    }
}

async fn read_chunk_size(peer: &mut Peer) -> Result<usize, UncheckedReason> {
    loop {
        match httparse::parse_chunk_size(peer.ahead()) {
            Ok(Status::Complete((line, size))) => {
                peer.take(line);
                return Ok(usize::try_from(size).unwrap_or(usize::MAX));
            }
            Ok(Status::Partial) if peer.ahead().len() <= HEAD_BYTES_MAX => peer.fill().await?,
            Ok(Status::Partial) | Err(_) => return Err(UncheckedReason::Malformed),
        }
    }
}

async fn skip_trailers(peer: &mut Peer) -> Result<(), UncheckedReason> {
    let mut skipped = 0;
    loop {
        let line = read_line(peer).await?;
        skipped += line + 2;
        if line == 0 {
            return Ok(());
        }
        if skipped > HEAD_BYTES_MAX {
            return Err(UncheckedReason::HeadTooLarge);
        }
    }
}

/// Takes one line and gives its size without the line end.
async fn read_line(peer: &mut Peer) -> Result<usize, UncheckedReason> {
    loop {
        if let Some(size) = peer.ahead().windows(2).position(|pair| pair == b"\r\n") {
            peer.take(size + 2);
            return Ok(size);
        }
        if peer.ahead().len() > HEAD_BYTES_MAX {
            return Err(UncheckedReason::Malformed);
        }
        peer.fill().await?;
    }
}

async fn move_bytes(
    peer: &mut Peer,
    count: usize,
    body: &mut BytesMut,
) -> Result<(), UncheckedReason> {
    let mut missing = count;
    loop {
        let piece = peer.take(missing);
        missing -= piece.len();
        body.extend_from_slice(&piece);
        if missing == 0 {
            return Ok(());
        }
        peer.fill().await?;
    }
}
