//! Half of a head with status 200, then an orderly close. The sender must not count it as a 200.

use super::played::Played;
use crate::ending::Ending;
use crate::peer::{Gone, Peer};

pub(super) async fn play(peer: &mut Peer) -> Result<Played, Gone> {
    peer.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-le").await?;
    Ok(Played::closing(Ending::BrokenOff))
}
