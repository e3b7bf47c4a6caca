//! Claiming: leases due events, fetches large payloads, admits each event at its host, and reads
//! the next due time.

mod backlog;
mod fetching;
pub(super) mod orphans;
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
use crate::event::{Release, WorkerId};
use crate::store::{ClaimLimit, Claimed, OwnLeases, Presence, Store, StoreError};
use crate::transport::Transport;

impl<S: Store, P: Presence, T: Transport, R: Rng + Send> Worker<S, P, T, R> {
    /// Starts a claim and a read of the next due time, if they are due. `held` permits are in use
    /// and `free` are not.
    pub(super) fn start_claiming(&mut self, free: usize, held: usize, now: Instant) {
        self.start_search(now);
        if self.orphans.blocks_claims(now) {
            self.scheduler.pause();
        } else if let Some(limit) = self.scheduler.next_claim(free, held, now) {
            let (store, presence) = (self.parts.store.clone(), self.parts.presence.clone());
            let (worker, lease) = (self.parts.id, self.config.lease);
            let stop = self.stop.clone();
            self.work.push(claim(store, presence, worker, lease, limit, stop));
        }
        if let Some(after) = self.scheduler.next_due_after() {
            let store = self.parts.store.clone();
            self.work.push(next_due(store, after));
        }
    }

    /// Starts a search for orphaned claims if one is due and no claim is open.
    pub(super) fn start_search(&mut self, now: Instant) {
        if !self.scheduler.is_claiming()
            && let Some(due_from) = self.orphans.start_search(now)
        {
            let store = self.parts.store.clone();
            self.work.push(search(store, self.parts.id, due_from));
        }
    }

    pub(super) fn on_claimed(&mut self, end: ClaimEnd) {
        match end {
            ClaimEnd::Claimed { limit, sent_at, result } => {
                self.on_claim_result(limit, sent_at, result)
            }
            ClaimEnd::NotSent => self.scheduler.claim_not_sent(),
            ClaimEnd::Searched(result) => self.on_searched(result),
            ClaimEnd::Fetched { event, result } => self.on_fetched(event, result),
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
        if let Err(error) = &result {
            self.scheduler.claim_failed(error);
            if error.is_unknown() {
                self.orphans.lost(limit.due_from, Instant::now());
            }
        }
        let Some(claimed) = self.observe(result) else {
            return;
        };
        let mut admitted = self.scheduler.claimed(&claimed, limit, sent_at.elapsed());
        self.parts.metrics.claimed.inc_by(claimed.claims.len() as u64);
        let times = ClaimTimes {
            claimed_at: claimed.now,
            sent_at,
            received_at: Instant::now(),
            lease: self.config.lease,
        };
        for claim in claimed.claims {
            self.tokens.insert(claim.key.token);
            let host = host_of(&claim.target_url);
            let event = ClaimedEvent { claim, host, times };
            if event.claim.unfetched > 0 {
                self.to_fetch.push_back(event);
            } else if !self.admit(event) {
                admitted.refused += 1;
            }
        }
        self.scheduler.admitted(admitted, Instant::now());
    }

    /// Releases the leases that no received claim belongs to. Their events were not sent.
    fn on_searched(&mut self, result: Result<OwnLeases, StoreError>) {
        let found = self.observe(result);
        let may_grow = found.as_ref().map(|leases| leases.may_grow);
        self.orphans.searched(may_grow, Instant::now());
        for key in found.into_iter().flat_map(|leases| leases.keys) {
            if self.tokens.insert(key.token) {
                tracing::warn!(event.id = %key.id, attempt = key.number,
                    "orphaned claim: its reply was lost, released without an attempt");
                let delay = Duration::ZERO;
                self.releases.push(Release { key, delay });
            }
        }
    }

    /// Returns false if the host refused the event, which is released.
    fn admit(&mut self, event: ClaimedEvent) -> bool {
        if self.stop.is_cancelled() {
            self.releases.push(event.release(Duration::ZERO));
            return true;
        }
        let (host, now) = (HostKey::clone(&event.host), Instant::now());
        match self.hosts.admit(&host, event, now, &mut self.parts.rng) {
            Admission::Start(event) => self.start_attempt(event),
            Admission::Queued => {}
            Admission::Delay(event, delay) => {
                self.delay(&event, delay);
                return false;
            }
        }
        true
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
        Completion::Claiming(ClaimEnd::Claimed { limit, sent_at, result })
    })
}

fn search(store: impl Store, worker: WorkerId, due_from: Option<DateTime<Utc>>) -> Work {
    Box::pin(async move {
        let leases = store.own_leases(worker, due_from).await;
        Completion::Claiming(ClaimEnd::Searched(leases))
    })
}

fn next_due(store: impl Store, after: DateTime<Utc>) -> Work {
    Box::pin(async move { Completion::Claiming(ClaimEnd::NextDue(store.next_due(after).await)) })
}

/// Returns host and port of a URL. A default port counts as a named one.
fn host_of(target_url: &str) -> HostKey {
    let named = Url::parse(target_url)
        .ok()
        .and_then(|url| Some(format!("{}:{}", url.host_str()?, url.port_or_known_default()?)));
    named.unwrap_or_default().into()
}
