//! Bytes that are not HTTP, then an orderly close. NUL and invalid UTF-8 are among them, because
//! whoever logs or stores what it received must survive those too.

use super::Played;
use crate::journal::Ending;
use crate::peer::{Gone, Peer};

const BYTES: &[u8] = b"\x00\xff\xfe\x16\x03\x01 this is no HTTP/1.1 200 OK\r\n\r\n\xc3\x28\x00\x7f";

pub(super) async fn play(peer: &mut Peer) -> Result<Played, Gone> {
    peer.send(BYTES).await?;
    Ok(Played::closing(Ending::BrokenOff))
}
