//! What follows when something that was under way has ended: the worker's answers to the store and to the wire.

use std::time::Duration;

use rand::Rng;
use tokio::time::Instant;

use super::Worker;
use super::hosts::Verdict;
use super::shortage::SHORTAGE_REST;
use super::work::{self, Attempted, Done, Held};
use crate::backoff::note_cut;
use crate::event::{AttemptResult, Release, Settlement};
use crate::store::{ClaimLimit, Claimed, ReclaimCause, Reclaimed, Store, StoreError};
use crate::transport::{NotSent, Transport};

impl<S: Store, T: Transport, R: Rng + Send> Worker<S, T, R> {
    pub(super) fn on_done(&mut self, done: Done) {
        match done {
            Done::Attempted(attempted) => self.on_attempted(attempted),
            Done::Claimed {
                asked,
                sent_at,
                claimed,
            } => self.on_claimed(asked, sent_at, claimed),
            Done::NotClaimed => self.look.claimed_nothing(),
            Done::NextDue(next) => {
                let next = self.observe(next);
                self.look.next_due_is(next.flatten(), Instant::now());
            }
            Done::Settled(batch, Ok(settled)) => {
                self.database.answered(Instant::now());
                self.settling.ended(batch.len());
                for (settlement, settled) in batch.iter().zip(settled) {
                    self.parts.metrics.settled(settlement, settled);
                    work::log_settled(settlement, settled);
                    self.look.due_in(work::delay_of(settlement), Instant::now());
                }
            }
            Done::Settled(batch, Err(error)) => {
                self.settling.failed(batch, &error);
                if !error.is_about_the_data() {
                    self.observe::<()>(Err(error));
                }
            }
            Done::Released(releases, result) => {
                self.releasing = false;
                if result.is_err() {
                    self.releases.extend(&releases);
                } else {
                    let soonest = releases.iter().map(|release| release.delay).min();
                    self.look.due_in(soonest, Instant::now());
                }
                self.observe(result);
            }
            Done::Absent(absent) => {
                let absent = self.observe(absent);
                self.sweeper.seen(absent, Instant::now());
                if self.sweeper.is_own_gone() && self.config.presence {
                    self.parts.store.renew_presence();
                }
            }
            Done::Reclaimed(cause, reclaimed) => self.on_reclaimed(cause, reclaimed),
            Done::Forgotten(holder, result) => {
                self.sweeper.forgotten(holder, result.is_ok());
                self.observe(result);
            }
        }
    }

    fn on_claimed(
        &mut self,
        asked: ClaimLimit,
        sent_at: Instant,
        claimed: Result<Claimed, StoreError>,
    ) {
        let asks_for_less = claimed.as_ref().is_err_and(StoreError::asks_for_less);
        let Some(claimed) = self.observe(claimed) else {
            return self.look.claim_failed(asks_for_less);
        };
        self.look.claimed(&claimed, asked, sent_at.elapsed());
        let Claimed { now, claims, .. } = claimed;
        self.parts.metrics.claimed(claims.len());
        let draining = self.stop.is_cancelled();
        for claim in claims {
            let held = Held::new(claim, now, sent_at, self.config.lease);
            if draining {
                self.releases.push(held.release(Duration::ZERO));
                continue;
            }
            match self
                .hosts
                .admit(held.host(), held, Instant::now(), &mut self.parts.rng)
            {
                Verdict::Start(held) => self.start(held),
                Verdict::Wait => {}
                Verdict::Defer(held, delay) => self.defer(&held, delay),
            }
        }
    }

    fn on_attempted(&mut self, mut attempted: Attempted) {
        let (result, now) = (attempted.result.take(), Instant::now());
        self.attempting -= 1;
        self.parts.metrics.in_flight(self.attempting);
        match &result {
            Some(Err(why)) => self.on_not_sent(&attempted, why, now),
            _ => self.hosts.finished(&attempted.host, now, attempted.started),
        }
        if let Some(next) = self.hosts.next(&attempted.host, now) {
            self.start(next);
        }
        match result {
            Some(Ok(result)) => self.settle(result, &attempted, now),
            Some(Err(_)) => {}
            // A panic inside an attempt is ours, not the receiver's: its lease ends it, as if the worker had died of it.
            None => {
                tracing::error!(event.id = %attempted.key.id, attempt = attempted.key.number, "an attempt panicked");
            }
        }
    }

    /// Nothing left this machine, so nothing is known of the receiver: the event goes back as if it had not been claimed.
    fn on_not_sent(&mut self, attempted: &Attempted, why: &NotSent, now: Instant) {
        self.shortage.met(why, now);
        self.parts.metrics.not_sent();
        self.hosts.not_sent(&attempted.host);
        match why {
            NotSent::Machine(_) => self.look.rest_until(now + SHORTAGE_REST),
            NotSent::Target(_) => self.hosts.rest_until(&attempted.host, now + SHORTAGE_REST),
        }
        self.releases.push(Release {
            key: attempted.key,
            delay: SHORTAGE_REST,
        });
    }

    fn settle(&mut self, mut result: AttemptResult, attempted: &Attempted, now: Instant) {
        self.parts
            .metrics
            .attempted(&result.outcome, attempted.duration);
        let policy = self.config.policy;
        let decision = policy.decide(
            attempted.failure_count,
            &result.outcome,
            &mut self.parts.rng,
        );
        note_cut(&mut result, &decision, policy.retry_after_cap);
        let settlement = Settlement {
            key: attempted.key,
            result,
            disposition: decision.disposition,
            started_at: attempted.started_at,
            duration: attempted.duration,
        };
        self.settling.push(settlement, now);
    }

    fn on_reclaimed(&mut self, cause: ReclaimCause, reclaimed: Result<Vec<Reclaimed>, StoreError>) {
        let reclaimed = self.observe(reclaimed);
        let ended = reclaimed.as_ref().map(Vec::len);
        self.sweeper.reclaimed(cause, ended, Instant::now());
        for lease in reclaimed.into_iter().flatten() {
            work::log_reclaimed(&lease, cause);
            self.parts.metrics.reclaimed(cause, &lease);
            self.look.want();
        }
    }

    /// Takes note of whether the database answered.
    fn observe<V>(&mut self, result: Result<V, StoreError>) -> Option<V> {
        let now = Instant::now();
        match result {
            Ok(value) => {
                self.database.answered(now);
                Some(value)
            }
            Err(error) => {
                self.database.failed(&error, now);
                None
            }
        }
    }
}
