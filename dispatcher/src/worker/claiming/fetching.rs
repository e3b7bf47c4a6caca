//! Fetching: reads large payloads after their claim, one at a time.
//!
//! So a large event on a slow database connection delays only itself and other large ones. If its
//! payload does not arrive before the rest of the lease is too short for an attempt, the event is
//! released and tried again later.

use std::time::Duration;

use rand::Rng;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::super::completion::ClaimedEvent;
use super::super::state::Worker;
use crate::event::ClaimKey;
use crate::store::{Presence, Store, StoreError};
use crate::transport::Transport;

/// Minimum size of a piece, in bytes. A piece is one short statement, so a large payload on a slow
/// connection does not run into its timeout.
const PIECE_MIN: usize = 256 * 1024;
/// Maximum number of pieces. For each piece, Postgres decompresses the payload from its start.
const PIECES_MAX: usize = 64;

/// Delay of an event whose payload took most of the time that the lease leaves for it.
const TOO_SLOW_DELAY: Duration = Duration::from_secs(60);

enum Fetched {
    Payload(Vec<u8>),
    LeaseLost,
    Failed(StoreError),
    /// The rest of the lease is too short for an attempt. Contains the duration of the fetch.
    Late(Duration),
    /// The worker stops.
    Stopped,
}

impl<S: Store, P: Presence, T: Transport, R: Rng + Send + 'static> Worker<S, P, T, R> {
    /// Starts to fetch the next payload if no other fetch is open.
    pub(in crate::worker) fn start_fetching(&mut self, now: Instant) {
        while !self.is_fetching
            && let Some(event) = self.to_fetch.pop_front()
        {
            let left =
                event.left_of(self.config.lease, now).saturating_sub(self.config.http_timeout);
            if left.is_zero() {
                self.releases.push(event.release(self.config.poll_interval));
                continue;
            }
            self.is_fetching = true;
            let (store, stop) = (self.parts.store.clone(), self.stop.clone());
            let fetching = fetch(store, event.claim.key, event.claim.unfetched, now + left, stop);
            self.start(fetching, |worker, result| worker.on_fetched(event, result));
        }
    }

    fn on_fetched(&mut self, mut event: ClaimedEvent, result: Fetched) {
        self.is_fetching = false;
        let (id, bytes) = (event.claim.key.id, event.claim.unfetched);
        let delay = match result {
            Fetched::Payload(payload) => {
                event.claim.payload = payload;
                self.admit(event);
                return;
            }
            Fetched::LeaseLost => {
                self.forget(event.claim.key.token);
                tracing::warn!(event.id = %id, "lease lost before the payload was fetched");
                return;
            }
            Fetched::Failed(error) => {
                tracing::warn!(event.id = %id, bytes, %error, "payload not fetched, event released");
                self.config.poll_interval
            }
            Fetched::Late(took) => {
                let available = self.config.lease.saturating_sub(self.config.http_timeout);
                tracing::warn!(event.id = %id, bytes, elapsed_ms = took.as_millis(),
                    "payload too late for the lease, event released: raise LEASE_SECONDS");
                // Otherwise it waited for other payloads, and the next time may suffice.
                let is_slow = took > available / 2;
                if is_slow { TOO_SLOW_DELAY } else { self.config.poll_interval }
            }
            Fetched::Stopped => Duration::ZERO,
        };
        self.releases.push(event.release(delay));
    }
}

async fn fetch(
    store: impl Store,
    key: ClaimKey,
    size: usize,
    deadline: Instant,
    stop: CancellationToken,
) -> Fetched {
    let started = Instant::now();
    let length = size.div_ceil(PIECES_MAX).max(PIECE_MIN);
    let mut payload = Vec::new();
    while payload.len() < size {
        if stop.is_cancelled() {
            return Fetched::Stopped;
        }
        if Instant::now() >= deadline {
            return Fetched::Late(started.elapsed());
        }
        match store.payload_piece(key, payload.len(), length).await {
            Ok(Some(piece)) if !piece.is_empty() => payload.extend(piece),
            Ok(_) => return Fetched::LeaseLost,
            Err(error) => return Fetched::Failed(error),
        }
    }
    Fetched::Payload(payload)
}
