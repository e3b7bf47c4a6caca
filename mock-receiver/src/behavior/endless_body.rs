//! A body that does not end while the peer reads: whoever reads it whole runs out of memory.

use serde::{Deserialize, Serialize};

use super::Played;
use crate::journal::Ending;
use crate::peer::{Gone, Peer};
use crate::wire;

/// Even "endless" has a bound: 10 GiB, then the connection is closed in the middle.
const BYTES_MAX: u64 = 10 * 1024 * 1024 * 1024;
const PIECE_BYTES: usize = 16 * 1024;

/// How an endless body is framed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Framing {
    /// Chunk after chunk.
    #[default]
    Chunked,
    /// No length: the body would end with the connection.
    UntilClose,
}

pub(super) async fn play(peer: &mut Peer, status: u16, framing: Framing) -> Result<Played, Gone> {
    let (head, piece) = match framing {
        Framing::Chunked => {
            let mut piece = format!("{PIECE_BYTES:x}\r\n").into_bytes();
            piece.extend_from_slice(&[b'.'; PIECE_BYTES]);
            piece.extend_from_slice(b"\r\n");
            (
                wire::head(status, &[("transfer-encoding", "chunked")]),
                piece,
            )
        }
        Framing::UntilClose => (
            wire::head(status, &[("connection", "close")]),
            vec![b'.'; PIECE_BYTES],
        ),
    };
    peer.send(&head).await?;
    for _ in 0..BYTES_MAX / PIECE_BYTES as u64 {
        peer.send(&piece).await?;
    }
    Ok(Played::closing(Ending::BrokenOff))
}
