//! A whole answer, then a reset: the receiver has taken the request, yet its sender may see only
//! the reset and must send again. Without a hold the two race on purpose.

use std::time::Duration;

use super::Played;
use crate::journal::Ending;
use crate::peer::{Gone, Peer};
use crate::wire;

pub(super) async fn play(peer: &mut Peer, status: u16, hold_ms: u64) -> Result<Played, Gone> {
    peer.send(&wire::whole(status, &[])).await?;
    // The answer is out: a peer that closes during the hold has left nothing to reset.
    let _left_early = peer.pause(Duration::from_millis(hold_ms)).await;
    Ok(Played::resetting(Ending::AnsweredThenReset { status }))
}
