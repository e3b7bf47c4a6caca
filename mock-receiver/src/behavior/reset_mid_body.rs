//! The head and half of the body, then a reset.
//!
//! The reset may discard sent bytes, so the peer receives between nothing and half of the body.

use super::played::Played;
use super::truncated_body;
use crate::ending::Ending;
use crate::peer::{Gone, Peer};

pub(super) async fn play(peer: &mut Peer, status: u16) -> Result<Played, Gone> {
    peer.send(&truncated_body::half_response(status)).await?;
    Ok(Played::resetting(Ending::Reset))
}
