//! A reset before the first byte of a response. The receiver has read the request, but the sender
//! cannot know that.

use std::time::Duration;

use super::played::Played;
use crate::ending::Ending;
use crate::peer::{Gone, Peer};

pub(super) async fn play(peer: &mut Peer, after_ms: u64) -> Result<Played, Gone> {
    peer.pause(Duration::from_millis(after_ms)).await?;
    Ok(Played::resetting(Ending::Reset))
}
