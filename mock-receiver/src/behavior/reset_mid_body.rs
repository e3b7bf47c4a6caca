//! The head and half of the announced body, then a reset.
//!
//! The half that was sent may be lost in the reset: the peer sees anything from nothing to half.

use super::{Played, truncated_body};
use crate::journal::Ending;
use crate::peer::{Gone, Peer};

pub(super) async fn play(peer: &mut Peer, status: u16) -> Result<Played, Gone> {
    peer.send(&truncated_body::half_answer(status)).await?;
    Ok(Played::resetting(Ending::Reset))
}
