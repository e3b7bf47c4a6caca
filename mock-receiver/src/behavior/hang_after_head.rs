//! The head and the first bytes of the body, then no more bytes. A sender whose timeout covers only
//! the head never ends this request.

use super::hang;
use super::played::Played;
use crate::peer::{Gone, Peer};
use crate::wire;

pub(super) async fn play(peer: &mut Peer, status: u16, hold_ms: u64) -> Result<Played, Gone> {
    let mut beginning = wire::head(status, &[("content-length", "1000")]);
    beginning.extend_from_slice(b"{\"received\":");
    peer.send(&beginning).await?;
    hang::play(peer, hold_ms).await
}
