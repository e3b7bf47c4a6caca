//! A reset before any byte of an answer: the request was read, but its sender cannot know.

use std::time::Duration;

use super::Played;
use crate::journal::Ending;
use crate::peer::{Gone, Peer};

pub(super) async fn play(peer: &mut Peer, after_ms: u64) -> Result<Played, Gone> {
    peer.pause(Duration::from_millis(after_ms)).await?;
    Ok(Played::resetting(Ending::Reset))
}
