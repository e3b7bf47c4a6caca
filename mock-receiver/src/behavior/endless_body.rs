//! A body that continues while the peer reads. A sender that stores all of it runs out of memory.

use serde::{Deserialize, Serialize};

use super::played::Played;
use crate::ending::Ending;
use crate::peer::{Gone, Peer};
use crate::wire;

/// Maximum size of the body. Then the receiver closes the connection in the middle.
const BYTES_MAX: u64 = 10 * 1024 * 1024 * 1024;
const PIECE_BYTES: usize = 16 * 1024;

/// Framing of an endless body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Framing {
    /// Chunked transfer encoding without a last chunk.
    #[default]
    Chunked,
    /// No length: the end of the connection is the end of the body.
    UntilClose,
}

pub(super) async fn play(peer: &mut Peer, status: u16, framing: Framing) -> Result<Played, Gone> {
    let (head, piece) = match framing {
        Framing::Chunked => {
            let mut piece = format!("{PIECE_BYTES:x}\r\n").into_bytes();
            piece.extend_from_slice(&[b'.'; PIECE_BYTES]);
            piece.extend_from_slice(b"\r\n");
            (wire::head(status, &[("transfer-encoding", "chunked")]), piece)
        }
        Framing::UntilClose => {
            (wire::head(status, &[("connection", "close")]), vec![b'.'; PIECE_BYTES])
        }
    };
    peer.send(&head).await?;
    for _ in 0..BYTES_MAX / PIECE_BYTES as u64 {
        peer.send(&piece).await?;
    }
    Ok(Played::closing(Ending::BrokenOff))
}
