//! Claiming: leases due events, admits each at its host, and reads the next due time.

pub(super) mod scan_start;
pub(super) mod scheduler;

use std::time::Duration;

use chrono::{DateTime, Utc};
use rand::Rng;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::attempting::hosts::{Admission, HostKey};
use super::completion::{ClaimEnd, ClaimTimes, ClaimedEvent, Completion, Work};
use super::state::Worker;
use crate::event::WorkerId;
use crate::store::{ClaimLimit, Claimed, Presence, Store, StoreError};
use crate::transport::Transport;

impl<S: Store, P: Presence, T: Transport, R: Rng + Send> Worker<S, P, T, R> {
    /// Starts a claim and a read of the next due time, if they are due. `held` permits are in use
    /// and `free` are not.
    pub(super) fn start_claiming(&mut self, free: usize, held: usize, now: Instant) {
        if let Some(limit) = self.scheduler.next_claim(free, held, now) {
            let (store, presence) = (self.parts.store.clone(), self.parts.presence.clone());
            let (worker, lease) = (self.parts.id, self.config.lease);
            let stop = self.stop.clone();
            self.work
                .push(claim(store, presence, worker, lease, limit, stop));
        }
        if let Some(after) = self.scheduler.next_due_after() {
            let store = self.parts.store.clone();
            self.work.push(next_due(store, after));
        }
    }

    pub(super) fn on_claimed(&mut self, end: ClaimEnd) {
        match end {
            ClaimEnd::Claimed {
                limit,
                sent_at,
                result,
            } => self.on_claim_result(limit, sent_at, result),
            ClaimEnd::NotSent => self.scheduler.claim_not_sent(),
            ClaimEnd::NextDue(result) => {
                let next = self.observe(result);
                self.scheduler.set_next_due(next.flatten(), Instant::now());
            }
        }
    }

    fn on_claim_result(
        &mut self,
        limit: ClaimLimit,
        sent_at: Instant,
        result: Result<Claimed, StoreError>,
    ) {
        let halves = result
            .as_ref()
            .is_err_and(StoreError::suggests_smaller_batch);
        let Some(claimed) = self.observe(result) else {
            return self.scheduler.claim_failed(halves);
        };
        self.scheduler.claimed(&claimed, limit, sent_at.elapsed());
        self.parts.metrics.claimed(claimed.claims.len());
        let times = ClaimTimes {
            claimed_at: claimed.now,
            sent_at,
            received_at: Instant::now(),
            lease: self.config.lease,
        };
        for claim in claimed.claims {
            let host = host_of(&claim.target_url);
            self.admit(ClaimedEvent { claim, host, times });
        }
    }

    fn admit(&mut self, event: ClaimedEvent) {
        if self.stop.is_cancelled() {
            self.releases.push(event.release(Duration::ZERO));
            return;
        }
        let (host, now) = (HostKey::clone(&event.host), Instant::now());
        match self.hosts.admit(host, event, now, &mut self.parts.rng) {
            Admission::Start(event) => self.start_attempt(event),
            Admission::Queued => {}
            Admission::Delay(event, delay) => self.delay(&event, delay),
        }
    }
}

/// Claims as soon as the presence is held, unless the worker stops before.
fn claim(
    store: impl Store,
    presence: impl Presence,
    worker: WorkerId,
    lease: Duration,
    limit: ClaimLimit,
    stop: CancellationToken,
) -> Work {
    Box::pin(async move {
        tokio::select! {
            biased;
            () = stop.cancelled() => return Completion::Claiming(ClaimEnd::NotSent),
            () = presence.held() => {}
        }
        let sent_at = Instant::now();
        let result = store.claim(worker, lease, limit).await;
        Completion::Claiming(ClaimEnd::Claimed {
            limit,
            sent_at,
            result,
        })
    })
}

fn next_due(store: impl Store, after: DateTime<Utc>) -> Work {
    Box::pin(async move { Completion::Claiming(ClaimEnd::NextDue(store.next_due(after).await)) })
}

/// Returns host and port of a URL. A default port counts as a named one.
fn host_of(target_url: &str) -> HostKey {
    let named = Url::parse(target_url).ok().and_then(|url| {
        Some(format!(
            "{}:{}",
            url.host_str()?,
            url.port_or_known_default()?
        ))
    });
    named.unwrap_or_default().into()
}
