//! A complete response that redirects. A sender that follows it would send a GET, or send the
//! signed body to a host that was not checked.

use super::played::Played;
use crate::peer::{Gone, Peer};
use crate::wire;

/// Default status: 307 keeps the method and the body.
pub(super) fn status_default() -> u16 {
    307
}

pub(super) async fn play(peer: &mut Peer, status: u16, location: &str) -> Result<Played, Gone> {
    peer.send(&wire::response(status, &[("location", location)])).await?;
    Ok(Played::answered(status))
}
