//! A complete response with a very large head. A sender must limit the size of heads, although the
//! grammar of HTTP permits this one.

use super::played::Played;
use crate::peer::{Gone, Peer};
use crate::wire;

/// Default size of the head: 1 MiB.
pub(super) fn bytes_default() -> u32 {
    1024 * 1024
}

const LINE_BYTES: u32 = 64;
const LINES_PER_WRITE: u32 = 256;

pub(super) async fn play(peer: &mut Peer, status: u16, bytes: u32) -> Result<Played, Gone> {
    let mut head = wire::head(status, &[("content-length", "0")]);
    let end = head.split_off(head.len() - 2);
    let lines = bytes.div_ceil(LINE_BYTES);
    for line in 0..lines {
        // "x-flood-" 8, number 10, ": " 2, filling 42, line end 2: 64 bytes.
        head.extend_from_slice(format!("x-flood-{line:010}: {:.<42}\r\n", "").as_bytes());
        if line % LINES_PER_WRITE == LINES_PER_WRITE - 1 {
            peer.send(&head).await?;
            head.clear();
        }
    }
    head.extend_from_slice(&end);
    peer.send(&head).await?;
    Ok(Played::answered(status))
}
