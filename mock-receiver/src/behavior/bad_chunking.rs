//! A chunked body whose second chunk size is not a number, then an orderly close.

use super::Played;
use crate::journal::Ending;
use crate::peer::{Gone, Peer};
use crate::wire;

pub(super) async fn play(peer: &mut Peer, status: u16) -> Result<Played, Gone> {
    let mut answer = wire::head(status, &[("transfer-encoding", "chunked")]);
    answer.extend_from_slice(b"5\r\nhello\r\nnone\r\n");
    peer.send(&answer).await?;
    Ok(Played::closing(Ending::BrokenOff))
}
