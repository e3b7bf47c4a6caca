//! Claiming: leases due events, fetches large payloads, admits each event at its host, and reads
//! the next due time.

mod backlog;
mod fetching;
pub(super) mod orphans;
pub(super) mod scan_start;
pub(super) mod scheduler;

use std::net::Ipv4Addr;
use std::time::Duration;

use rand::Rng;
use tokio::time::Instant;
use url::Url;

use super::attempting::hosts::{Admission, HostKey};
use super::completion::{ClaimTimes, ClaimedEvent};
use super::state::Worker;
use crate::event::Release;
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
        if !self.scheduler.is_claiming()
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
        self.start(claiming, move |worker, claimed| match claimed {
            Some((sent_at, result)) => worker.on_claimed(limit, sent_at, result),
            None => worker.scheduler.claim_not_sent(),
        });
    }

    fn on_next_due(&mut self, result: Result<Option<Duration>, StoreError>) {
        let next = self.observe(result);
        self.scheduler.set_next_due(next.flatten(), Instant::now());
    }

    fn on_claimed(
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

/// Returns host and port of a URL. A default port counts as a named one.
fn host_of(target_url: &str) -> HostKey {
    let named = plain_host(target_url).or_else(|| {
        let url = Url::parse(target_url).ok()?;
        Some(format!("{}:{}", url.host_str()?, url.port_or_known_default()?))
    });
    named.unwrap_or_default().into()
}

/// Returns host and port if their form is one that the URL parser does not change. The transport
/// parses the URL anyway, and this saves the second time.
fn plain_host(target_url: &str) -> Option<String> {
    let (rest, default_port) = match target_url.strip_prefix("http://") {
        Some(rest) => (rest, 80),
        None => (target_url.strip_prefix("https://")?, 443),
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let authority = &rest[..end];
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => {
            (host, port.parse::<u16>().ok()?)
        }
        Some(_) => return None,
        None => (authority, default_port),
    };
    let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._".contains(&b);
    let last = host.rsplit('.').next().unwrap_or_default();
    let is_name = last.starts_with(|c: char| c.is_ascii_lowercase())
        && host.bytes().all(is_plain)
        && !host.contains("xn--");
    (is_name || host.parse::<Ipv4Addr>().is_ok()).then(|| format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_is_the_same_with_and_without_the_url_parser() {
        let urls = [
            "http://a.example/hook",
            "https://a.example",
            "https://a.example:8443?x",
            "http://127.0.0.1:8080/webhook/1",
            "http://a_b-c.example:80/",
        ];
        for url in urls {
            let parsed = Url::parse(url).expect("the URL is valid");
            let port = parsed.port_or_known_default().expect("the scheme has a port");
            let host = parsed.host_str().expect("the URL has a host");
            assert_eq!(plain_host(url), Some(format!("{host}:{port}")), "{url}");
        }
    }

    #[test]
    fn other_forms_of_a_host_are_left_to_the_url_parser() {
        let forms = ["http://A.example/", "http://0x7f.1/", "http://2130706433/", "http://[::1]/"];
        let forms = forms.into_iter().chain([
            "http:\\\\a.example/",
            "http://a@b.example/",
            "http://127.0.0.01/",
            "http://a.example:+80/",
            "http://a.example\\x/",
            "http://xn--tda.example/",
            "http://%61.example/",
        ]);
        for url in forms {
            assert_eq!(plain_host(url), None, "{url}");
        }
        assert_eq!(&*host_of("http://A.example/x"), "a.example:80");
        assert_eq!(&*host_of("http://0x7f.1:8080/"), "127.0.0.1:8080");
    }
}
