//! The head and the first bytes of the body, then silence: a timeout that covers the head alone
//! would let this hold its slot for ever.

use super::{Played, hang};
use crate::peer::{Gone, Peer};
use crate::wire;

pub(super) async fn play(peer: &mut Peer, status: u16, hold_ms: u64) -> Result<Played, Gone> {
    let mut begun = wire::head(status, &[("content-length", "1000")]);
    begun.extend_from_slice(b"{\"received\":");
    peer.send(&begun).await?;
    hang::play(peer, hold_ms).await
}
