//! No byte of an answer: the connection is held until the peer closes it or the bound passes.

use std::time::Duration;

use super::Played;
use crate::journal::Ending;
use crate::peer::{Gone, Peer};

/// Longer than any sender should wait.
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
