//! An orderly close before the first byte of a response.

use std::time::Duration;

use super::played::Played;
use crate::ending::Ending;
use crate::peer::{Gone, Peer};

pub(super) async fn play(peer: &mut Peer, after_ms: u64) -> Result<Played, Gone> {
    peer.pause(Duration::from_millis(after_ms)).await?;
    Ok(Played::closing(Ending::Closed))
}
