//! Bytes that are not HTTP, then an orderly close. They contain NUL and invalid UTF-8, because a
//! sender that logs or stores them must not fail.

use super::played::Played;
use crate::ending::Ending;
use crate::peer::{Gone, Peer};

const BYTES: &[u8] = b"\x00\xff\xfe\x16\x03\x01 this is no HTTP/1.1 200 OK\r\n\r\n\xc3\x28\x00\x7f";

pub(super) async fn play(peer: &mut Peer) -> Result<Played, Gone> {
    peer.send(BYTES).await?;
    Ok(Played::closing(Ending::BrokenOff))
}
