//! A complete response that keeps the connection, and then a step that no sender expects.
//!
//! The request has ended with its response. The step follows on the same connection, so that it
//! meets the next request.

use std::time::Duration;

use super::answer::{self, RetryAfter};
use super::played::{Next, Played, Then};
use crate::peer::{Gone, Peer};
use crate::wire;

pub(super) async fn play(
    peer: &mut Peer,
    answer: (u16, Option<&RetryAfter>, u64),
    then: Then,
    then_ms: u64,
) -> Result<Played, Gone> {
    let (status, retry_after, after_ms) = answer;
    let played = answer::play(peer, status, retry_after, after_ms).await?;
    Ok(Played { next: Next::Then(then, then_ms), ..played })
}

/// Takes the step after its delay and returns the next one.
pub(crate) async fn step(peer: &mut Peer, then: Then, then_ms: u64) -> Next {
    if peer.pause(Duration::from_millis(then_ms)).await.is_err() {
        return Next::Close;
    }
    let sent = match then {
        Then::Response => peer.send(&wire::response(200, &[])).await,
        Then::Content => peer.send(b"ok\r\n").await,
        // A request that arrived in the meantime is answered.
        Then::Close if peer.ahead().is_empty() => Err(Gone),
        Then::Close => Ok(()),
    };
    sent.map_or(Next::Close, |()| Next::Again)
}
