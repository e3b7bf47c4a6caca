//! Attempting: signs and sends claimed events, decides the disposition of each outcome, and feeds
//! the host queues.

pub(super) mod hosts;

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use rand::Rng;
use tokio::time::Instant;
use tracing::Instrument;

use self::hosts::Ended;
use super::completion::{Attempted, ClaimedEvent};
use super::state::Worker;
use crate::event::{AttemptResult, Claim, Outcome, Release, Settlement};
use crate::signature::Signer;
use crate::store::{Presence, Store};
use crate::transport::{NotSent, Request, Transport};

/// Delay of an event that was not sent. For the same time, the worker claims nothing, or sends
/// nothing to the one affected target.
const EXHAUSTION_REST: Duration = Duration::from_secs(1);

impl<S: Store, P: Presence, T: Transport, R: Rng + Send + 'static> Worker<S, P, T, R> {
    /// Starts an attempt if there is an event. If the lease is too short for it, the event is
    /// released and the next event of the host queue starts.
    pub(super) fn start_attempt(&mut self, mut next: Option<ClaimedEvent>) {
        while let Some(event) = next.take() {
            let now = Instant::now();
            if event.left_of(self.config.lease, now) < self.config.http_timeout {
                self.hosts.not_sent(&event.host, now);
                // Not due immediately: the next claim would probably be as slow as this one.
                self.releases.push(event.release(self.config.poll_interval));
                next = self.hosts.next(&event.host, now);
                continue;
            }
            self.in_flight += 1;
            self.parts.metrics.in_flight(self.in_flight);
            let (transport, signer) = (self.parts.transport.clone(), self.parts.signer.clone());
            self.start(attempt(transport, signer, event), Self::on_attempted);
        }
    }

    /// Releases an event because its host is at its limit.
    pub(super) fn delay(&mut self, event: &ClaimedEvent, delay: Duration) {
        tracing::debug!(event.id = %event.claim.key.id, delay_ms = delay.as_millis(),
            "delayed, the host is at its limit");
        self.parts.metrics.delayed.inc();
        self.releases.push(event.release(delay));
    }

    /// Releases queued events whose host has become too slow.
    pub(super) fn delay_overdue(&mut self, now: Instant) {
        for (event, delay) in self.hosts.overdue(now, &mut self.parts.rng) {
            self.delay(&event, delay);
        }
    }

    fn on_attempted(&mut self, mut attempted: Attempted) {
        let (result, now) = (attempted.result.take(), Instant::now());
        self.in_flight -= 1;
        self.parts.metrics.in_flight(self.in_flight);
        let is_timeout = matches!(&result, Some(Ok(result)) if result.outcome == Outcome::Timeout);
        let end = Ended { started: attempted.started, is_timeout };
        let is_sent = !matches!(result, Some(Err(_)));
        if is_sent && self.hosts.finished(&attempted.host, now, end) {
            self.scheduler.made_room(now);
        }
        match result {
            Some(Ok(result)) => self.decide(result, &attempted, now),
            Some(Err(reason)) => self.on_not_sent(&attempted, &reason, now),
            // A panic is a bug of this program and says nothing about the receiver. The lease
            // then expires.
            None => {
                self.handed.remove(&attempted.key.token);
                tracing::error!(event.id = %attempted.key.id, attempt = attempted.key.number,
                    "attempt panicked, its lease will expire");
            }
        }
        let next = self.hosts.next(&attempted.host, now);
        self.start_attempt(next);
    }

    /// The request did not leave this machine, so the attempt says nothing about the receiver and
    /// does not count.
    fn on_not_sent(&mut self, attempted: &Attempted, reason: &NotSent, now: Instant) {
        if self.exhaustion_log.is_due(now) {
            tracing::warn!(%reason, "local exhaustion, events are released and no attempt is counted");
        }
        self.parts.metrics.exhausted.inc();
        self.hosts.not_sent(&attempted.host, now);
        match reason {
            NotSent::Machine(_) => self.scheduler.rest_until(now + EXHAUSTION_REST),
            NotSent::Target(_) => self.hosts.rest_until(&attempted.host, now + EXHAUSTION_REST),
        }
        self.releases.push(Release { key: attempted.key, delay: EXHAUSTION_REST });
    }

    fn decide(&mut self, mut result: AttemptResult, attempted: &Attempted, now: Instant) {
        self.parts.metrics.attempted(&result.outcome, attempted.duration);
        let &Attempted { key, failure_count, started_at, duration, .. } = attempted;
        let disposition =
            self.config.policy.decide(failure_count, &mut result, &mut self.parts.rng);
        self.batches.push(Settlement { key, result, disposition, started_at, duration }, now);
    }
}

fn attempt(
    transport: impl Transport,
    signer: Signer,
    event: ClaimedEvent,
) -> impl Future<Output = Attempted> + Send {
    let Claim { key, failure_count, target_url, payload, .. } = event.claim;
    let span = tracing::info_span!("attempt", event.id = %key.id, attempt = key.number);
    let attempt = async move {
        let started = Instant::now();
        // Counted from the reply to the claim. Counted from the request, the start could lie after
        // the settle if the claim waited for its connection. So `started_at` may be early by the
        // travel time of the reply.
        let started_at = event.times.claimed_at + (started - event.times.received_at);
        let signed_at = transport.now();
        let id = key.id.to_string();
        let signature = signer.sign(&id, signed_at.timestamp(), &payload);
        let request = Request {
            id: key.id,
            number: key.number,
            started_at: signed_at,
            signature,
            target_url,
            payload: Bytes::from(payload),
        };
        let result = AssertUnwindSafe(transport.attempt(request)).catch_unwind().await.ok();
        let duration = started.elapsed();
        Attempted { key, host: event.host, failure_count, started, started_at, duration, result }
    };
    attempt.instrument(span)
}
