//! The head and half of the body, then an orderly close.

use super::played::Played;
use crate::ending::Ending;
use crate::peer::{Gone, Peer};
use crate::wire;

const BODY: &str = "{\"received\":true,\"note\":\"the second half of this is not sent\"}\n";

pub(super) async fn play(peer: &mut Peer, status: u16) -> Result<Played, Gone> {
    peer.send(&half_response(status)).await?;
    Ok(Played::closing(Ending::BrokenOff))
}

/// Returns a head with the length of a complete body, and half of that body.
pub(super) fn half_response(status: u16) -> Vec<u8> {
    let length = BODY.len().to_string();
    let mut half = wire::head(status, &[("content-length", &length)]);
    half.extend_from_slice(&BODY.as_bytes()[..BODY.len() / 2]);
    half
}
