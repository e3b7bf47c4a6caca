//! The worker: claim -> attempt -> decide -> settle, many at once, in one task.
//!
//! It owns everything that it has under way: attempts and calls of the store are futures in one set, none is spawned, and
//! nothing touches the store when it is dropped. So dropping a worker is the same as killing it, which the simulation uses.
//! It reads no clock but tokio's and no chance but its own RNG.

mod beginning;
mod database;
mod hosts;
mod look;
mod react;
mod settling;
mod shortage;
mod sweeper;
mod work;

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use rand::Rng;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use self::database::Database;
use self::hosts::Hosts;
use self::look::Look;
use self::settling::Settling;
use self::shortage::Shortage;
use self::sweeper::Sweeper;
use self::work::{Held, Work};
use crate::backoff::jitter;
use crate::config::WorkerConfig;
use crate::event::{Release, WorkerId};
use crate::metrics::Metrics;
use crate::signature::Signer;
use crate::store::{RECLAIM_BATCH_MAX, Reclaim, ReclaimCause, Store};
use crate::transport::Transport;

/// What a worker is made of.
#[derive(Debug)]
pub struct Parts<S, T, R> {
    /// Where events are.
    pub store: S,
    /// What makes attempts.
    pub transport: T,
    /// What signs them.
    pub signer: Signer,
    /// All its chance.
    pub rng: R,
    /// Its number among the workers.
    pub holder: WorkerId,
    /// Told when this process has stored an event.
    pub wake: Arc<Notify>,
    /// What it counts into.
    pub metrics: Arc<Metrics>,
}

/// A worker that was not yet started.
pub struct Worker<S, T, R> {
    config: WorkerConfig,
    parts: Parts<S, T, R>,
    work: FuturesUnordered<Work>,
    stop: CancellationToken,
    look: Look,
    hosts: Hosts<Held>,
    /// Attempts under way.
    attempting: usize,
    settling: Settling,
    releases: Vec<Release>,
    /// A release is under way.
    releasing: bool,
    sweeper: Sweeper,
    database: Database,
    shortage: Shortage,
}

impl<S: Store, T: Transport, R: Rng + Send> Worker<S, T, R> {
    /// A worker with nothing under way.
    pub fn new(config: WorkerConfig, parts: Parts<S, T, R>) -> Self {
        let now = Instant::now();
        let in_time = config.lease.saturating_sub(config.http_timeout);
        Self {
            work: FuturesUnordered::new(),
            stop: CancellationToken::new(),
            look: Look::new(config.poll_interval, config.in_flight_max, in_time, now),
            hosts: Hosts::new(config.in_flight_per_host_max),
            attempting: 0,
            settling: Settling::default(),
            releases: Vec::new(),
            releasing: false,
            sweeper: Sweeper::new(parts.holder, config.lease, now),
            database: Database::new(now),
            shortage: Shortage::default(),
            config,
            parts,
        }
    }

    /// Works until it is told to stop; then finishes what is under way, within `SHUTDOWN_SECONDS`. Says whether it could:
    /// what is left otherwise is under leases that somebody else has to end.
    pub async fn run(mut self, shutdown: CancellationToken) -> bool {
        let wake = Arc::clone(&self.parts.wake);
        loop {
            self.on_time();
            self.start_what_can_start();
            let timer = self.next_timer();
            // What has ended comes before the timer: no timer, however often it is due, may keep it waiting.
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                () = wake.notified() => self.look.want(),
                Some(done) = self.work.next(), if !self.work.is_empty() => self.on_done(done),
                () = sleep_until(timer) => {}
            }
        }
        self.drain().await
    }

    /// Stops claiming, hands back what was not sent, and sees the rest to its settle.
    async fn drain(&mut self) -> bool {
        let deadline = Instant::now() + self.config.shutdown;
        self.stop.cancel();
        let unsent = self.hosts.empty_lines();
        tracing::info!(
            attempts = self.attempting,
            unsent = unsent.len(),
            "stopping"
        );
        self.releases
            .extend(unsent.iter().map(|held| held.release(Duration::ZERO)));
        while !self.is_drained() {
            self.start_writes();
            let timer = self.next_write(deadline);
            tokio::select! {
                biased;
                () = sleep_until(deadline) => {
                    tracing::warn!(attempts = self.attempting, unsettled = self.settling.len(),
                        "SHUTDOWN_SECONDS are over: what is left is for others to take up");
                    return false;
                }
                Some(done) = self.work.next(), if !self.work.is_empty() => self.on_done(done),
                () = sleep_until(timer) => {}
            }
        }
        tracing::info!("stopped: nothing is left under way");
        true
    }

    fn is_drained(&self) -> bool {
        let written = self.settling.is_idle() && self.releases.is_empty() && !self.releasing;
        self.attempting == 0 && written && !self.look.is_claiming()
    }

    fn start_what_can_start(&mut self) {
        self.start_writes();
        let now = Instant::now();
        if !self.database.is_open(now) {
            return;
        }
        let held =
            self.attempting + self.hosts.waiting() + self.settling.len() + self.releases.len();
        let free = self.config.in_flight_max.saturating_sub(held);
        if let Some(limit) = self.look.claim(free, held, now) {
            let (store, holder) = (self.parts.store.clone(), self.parts.holder);
            self.work.push(work::claim(
                store,
                holder,
                self.config.lease,
                limit,
                self.stop.clone(),
            ));
        }
        if let Some(after) = self.look.next_due() {
            self.work
                .push(work::next_due(self.parts.store.clone(), after));
        }
        if self.sweeper.look(now) {
            let (store, own) = (self.parts.store.clone(), self.parts.holder);
            self.work.push(work::absent_workers(store, own));
        }
        if let Some(cause) = self.sweeper.reclaim(now, self.database.is_steady(now)) {
            let reclaim = self.reclaim(cause);
            self.work
                .push(work::reclaim(self.parts.store.clone(), reclaim));
        }
        if let Some(holder) = self.sweeper.forget() {
            self.work
                .push(work::forget(self.parts.store.clone(), holder));
        }
    }

    /// Results and releases first of all: nothing else may come before what is in hand.
    fn start_writes(&mut self) {
        let now = Instant::now();
        if !self.database.is_open(now) {
            return;
        }
        while let Some(batch) = self.settling.next_batch(now, self.attempting == 0) {
            self.work
                .push(work::settle(self.parts.store.clone(), batch));
        }
        if !self.releasing && !self.releases.is_empty() {
            self.releasing = true;
            let releases = std::mem::take(&mut self.releases);
            self.work
                .push(work::release(self.parts.store.clone(), releases));
        }
    }

    /// When something is to be written next, while nothing else is done any more. The timers of looks must not count here:
    /// nobody looks, so they would stay in the past and the loop would never rest.
    fn next_write(&self, deadline: Instant) -> Instant {
        let closed_until = self.database.closed_until(Instant::now());
        closed_until.or(self.settling.at()).unwrap_or(deadline)
    }

    fn next_timer(&self) -> Instant {
        let now = Instant::now();
        if let Some(closed_until) = self.database.closed_until(now) {
            return closed_until;
        }
        let times = [
            Some(self.look.at(now)),
            self.sweeper.at(),
            self.settling.at(),
            self.hosts.look_at(now),
        ];
        times
            .into_iter()
            .flatten()
            .min()
            .expect("a look is always ahead")
    }

    /// What is due by time alone.
    fn on_time(&mut self) {
        let now = Instant::now();
        self.look.on_timer(now);
        for (held, delay) in self.hosts.overdue(now, &mut self.parts.rng) {
            self.defer(&held, delay);
        }
    }

    fn start(&mut self, held: Held) {
        let mut next = Some(held);
        while let Some(held) = next.take() {
            let now = Instant::now();
            // The lease is measured from before the claim was sent: what is left must cover a whole attempt.
            if held.lease_left(now) < self.config.http_timeout {
                self.hosts.not_sent(&held.host());
                // Not at once: whatever made the claim so slow would make the next as slow, round and round.
                self.releases.push(held.release(self.config.poll_interval));
                next = self.hosts.next(&held.host(), now);
                continue;
            }
            self.attempting += 1;
            self.parts.metrics.in_flight(self.attempting);
            let (transport, signer) = (self.parts.transport.clone(), self.parts.signer.clone());
            self.work.push(work::attempt(transport, signer, held));
        }
    }

    fn defer(&mut self, held: &Held, delay: Duration) {
        tracing::debug!(event.id = %held.claim.key.id, delay_ms = delay.as_millis(), "deferred: its host is at its cap");
        self.parts.metrics.deferred();
        self.releases.push(held.release(delay));
    }

    fn reclaim(&mut self, cause: ReclaimCause) -> Reclaim {
        let policy = self.config.policy;
        let rng = &mut self.parts.rng;
        Reclaim {
            cause,
            delays: (1..policy.max_abandoned)
                .map(|k| policy.abandoned_floor(k))
                .collect(),
            jitters: (0..RECLAIM_BATCH_MAX).map(|_| jitter(rng)).collect(),
        }
    }
}
