//! A complete response whose body is sent one byte at a time. Only a total deadline ends it early.

use std::time::Duration;

use super::played::Played;
use crate::peer::{Gone, Peer};
use crate::wire;

/// Default size of the body: one hour at the default interval.
pub(super) fn bytes_default() -> u32 {
    3_600
}

pub(super) fn every_ms_default() -> u64 {
    1_000
}

pub(super) async fn play(
    peer: &mut Peer,
    status: u16,
    bytes: u32,
    every_ms: u64,
) -> Result<Played, Gone> {
    peer.send(&wire::head(status, &[("content-length", &bytes.to_string())])).await?;
    for _ in 0..bytes {
        peer.pause(Duration::from_millis(every_ms)).await?;
        peer.send(b".").await?;
    }
    Ok(Played::answered(status))
}
