//! Reads the body of a request by its length or by chunks.

use bytes::BytesMut;
use httparse::Status;

use super::head::{HEAD_BYTES_MAX, Length};
use crate::check::UncheckedReason;
use crate::peer::Peer;

/// Maximum size of a body: four times the default limit of the dispatcher.
const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Reads the body into `body`. If that fails, `body` contains the received part.
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

/// Removes one line from the received bytes and returns its size without the line end.
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
