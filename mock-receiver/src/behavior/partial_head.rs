//! Half of a head, then an orderly close: a 200 that must not count, because it never became one.

use super::Played;
use crate::journal::Ending;
use crate::peer::{Gone, Peer};

pub(super) async fn play(peer: &mut Peer) -> Result<Played, Gone> {
    peer.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-le")
        .await?;
    Ok(Played::closing(Ending::BrokenOff))
}
