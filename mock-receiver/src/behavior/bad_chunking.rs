//! A chunked body whose second chunk size is not a number, then an orderly close.

use super::played::Played;
use crate::ending::Ending;
use crate::peer::{Gone, Peer};
use crate::wire;

pub(super) async fn play(peer: &mut Peer, status: u16) -> Result<Played, Gone> {
    let mut response = wire::head(status, &[("transfer-encoding", "chunked")]);
    response.extend_from_slice(b"5\r\nhello\r\nnone\r\n");
    peer.send(&response).await?;
    Ok(Played::closing(Ending::BrokenOff))
}
