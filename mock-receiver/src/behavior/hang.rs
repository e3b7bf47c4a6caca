//! No response: the connection stays open until the peer closes it or the time limit passes.

use std::time::Duration;

use super::played::Played;
use crate::ending::Ending;
use crate::peer::{Gone, Peer};

/// Default time limit in milliseconds. It exceeds the timeout of any reasonable sender.
pub(super) fn hold_ms_default() -> u64 {
    300_000
}

pub(super) async fn play(peer: &mut Peer, hold_ms: u64) -> Result<Played, Gone> {
    let ending = match peer.pause(Duration::from_millis(hold_ms)).await {
        Err(Gone) => Ending::HungUntilPeerClosed,
        Ok(()) => Ending::HungUntilBound,
    };
    Ok(Played::closing(ending))
}
