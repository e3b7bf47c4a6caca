//! Claiming: leases due events, fetches large payloads, admits each event at its host, and reads
//! the next due time.

mod backlog;
mod fetching;
mod handed_over;
pub(super) mod orphans;
pub(super) mod scan_start;
pub(super) mod scheduler;

use std::time::Duration;

use rand::Rng;
use tokio::time::Instant;

use super::attempting::hosts::Admission;
use super::completion::{ClaimTimes, ClaimedEvent};
use super::state::Worker;
use crate::event::Release;
use crate::host::{HostKey, host_of};
use crate::store::{ClaimLimit, Claimed, OwnLeases, Presence, Store, StoreError};
use crate::transport::Transport;

impl<S: Store, P: Presence, T: Transport, R: Rng + Send + 'static> Worker<S, P, T, R> {
    /// Starts a claim and a read of the next due time, if they are due. `held` permits are in use
    /// and `free` are not.
    pub(super) fn start_claiming(&mut self, free: usize, held: usize, now: Instant) {
        self.start_search(now);
        if self.orphans.blocks_claims(now) {
            self.scheduler.pause();
        } else if let Some(limit) = self.scheduler.next_claim(free, held, now) {
            self.start_claim(limit);
        }
        if let Some(after) = self.scheduler.next_due_after() {
            let store = self.parts.store.clone();
            self.start(async move { store.next_due(after).await }, Self::on_next_due);
        }
    }

    /// Starts a search for orphaned claims if one is due and no claim is open.
    pub(super) fn start_search(&mut self, now: Instant) {
        if self.scheduler.claiming() == 0
            && let Some(due_from) = self.orphans.start_search(now)
        {
            let (store, worker) = (self.parts.store.clone(), self.parts.id);
            self.start(async move { store.own_leases(worker, due_from).await }, Self::on_searched);
        }
    }

    /// Claims as soon as the presence is held, unless the worker stops before.
    fn start_claim(&mut self, limit: ClaimLimit) {
        let (store, presence) = (self.parts.store.clone(), self.parts.presence.clone());
        let (worker, lease, stop) = (self.parts.id, self.config.lease, self.stop.clone());
        let claiming = async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => return None,
                () = presence.held() => {}
            }
            let sent_at = Instant::now();
            Some((sent_at, store.claim(worker, lease, limit).await))
        };
        self.start(claiming, move |worker, reply| worker.on_claimed(limit, reply));
    }

    fn on_next_due(&mut self, result: Result<Option<Duration>, StoreError>) {
        let next = self.observe(result);
        self.scheduler.set_next_due(next.flatten(), Instant::now());
    }

    fn on_claimed(
        &mut self,
        limit: ClaimLimit,
        reply: Option<(Instant, Result<Claimed, StoreError>)>,
    ) {
        let Some((sent_at, result)) = reply else {
            return self.scheduler.claim_not_sent();
        };
        if let Err(error) = &result {
            self.scheduler.claim_failed(error);
            if error.is_unknown() {
                self.orphans.lost(limit.due_from, Instant::now());
            }
        }
        let Some(claimed) = self.observe(result) else { return };
        let mut admitted = self.scheduler.claimed(&claimed, limit, sent_at.elapsed());
        self.parts.metrics.claimed.inc_by(claimed.claims.len() as u64);
        let times = ClaimTimes { claimed_at: claimed.now, sent_at, received_at: Instant::now() };
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
            if !self.parts.hand_off.is_reserved(key.token) && self.tokens.insert(key.token) {
                tracing::warn!(event.id = %key.id, attempt = key.number,
                    "orphaned claim: its reply was lost, released without an attempt");
                self.releases.push(Release { key, delay: Duration::ZERO });
            }
        }
    }

    /// Returns false if the host refused the event, which is released.
    pub(super) fn admit(&mut self, event: ClaimedEvent) -> bool {
        if self.stop.is_cancelled() {
            self.releases.push(event.release(Duration::ZERO));
            return true;
        }
        let (host, now) = (HostKey::clone(&event.host), Instant::now());
        match self.hosts.admit(&host, event, now, &mut self.parts.rng) {
            Admission::Start(event) => self.start_attempt(Some(event)),
            Admission::Queued => {}
            Admission::Delay(event, delay) => {
                self.delay(&event, delay);
                return false;
            }
        }
        true
    }
}
