//! A complete response, then a reset. The receiver has accepted the request, but the sender may see
//! only the reset and must send again. Without a hold, response and reset race on purpose.

use std::time::Duration;

use super::played::Played;
use crate::ending::Ending;
use crate::peer::{Gone, Peer};
use crate::wire;

pub(super) async fn play(peer: &mut Peer, status: u16, hold_ms: u64) -> Result<Played, Gone> {
    peer.send(&wire::response(status, &[])).await?;
    // The response is sent. If the peer closes during the hold, there is no connection to reset.
    let _left_early = peer.pause(Duration::from_millis(hold_ms)).await;
    Ok(Played::resetting(Ending::AnsweredThenReset { status }))
}
