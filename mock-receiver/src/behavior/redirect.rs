//! A whole answer that points elsewhere. Followed, it would turn the POST into a GET, or carry a
//! signed body to a host that nobody checked.

use super::Played;
use crate::peer::{Gone, Peer};
use crate::wire;

/// The one that asks for the same method again.
pub(super) fn status_default() -> u16 {
    307
}

pub(super) async fn play(peer: &mut Peer, status: u16, location: &str) -> Result<Played, Gone> {
    peer.send(&wire::whole(status, &[("location", location)]))
        .await?;
    Ok(Played::answered(status))
}
