//! The worker: claims due events, attempts them, decides and settles, with many events in one task.
//!
//! The worker owns all its futures (attempts and store calls) in one set. It spawns no task, and
//! dropping it touches no store. So dropping a worker has the same effect as killing its process,
//! and the simulation uses that. The only clock is that of tokio, and the only randomness is the
//! RNG in `Parts`.

mod attempting;
mod claiming;
mod completion;
mod database;
mod due_ranges;
mod reclaiming;
mod settling;
mod state;

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use rand::Rng;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

pub use self::state::{Parts, Worker};
use crate::store::{Presence, Store};
use crate::transport::Transport;

impl<S: Store, P: Presence, T: Transport, R: Rng + Send + 'static> Worker<S, P, T, R> {
    /// Runs until `shutdown`, then drains within `SHUTDOWN_SECONDS`. Returns false if claims are
    /// left. Their leases must then be reclaimed.
    pub async fn run(mut self, shutdown: CancellationToken) -> bool {
        let wake = Arc::clone(&self.parts.wake);
        let presence = self.parts.presence.clone();
        self.parts.hand_off.set_presence(move || presence.is_held());
        loop {
            // Completions may be ready all the time, and fresh events must not wait for a pause.
            while let Ok(batch) = self.parts.handed_over.try_recv() {
                self.on_handed_over(batch);
            }
            let now = Instant::now();
            self.parts.health.iterated(now);
            self.scheduler.on_timer(now);
            self.delay_overdue(now);
            self.start_work();
            let timer = self.next_timer();
            // Completions come before the timer. Otherwise a timer that is always due would delay
            // them forever.
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                () = wake.notified() => self.scheduler.request(),
                Some(completion) = self.work.next(), if !self.work.is_empty() => {
                    completion(&mut self);
                }
                Some(batch) = self.parts.handed_over.recv() => self.on_handed_over(batch),
                () = sleep_until(timer) => {}
            }
        }
        self.drain().await
    }

    /// Stops claiming, releases queued events, and waits until all attempts are settled. Returns
    /// false at the deadline.
    async fn drain(&mut self) -> bool {
        let deadline = Instant::now() + self.config.shutdown;
        self.stop.cancel();
        self.parts.hand_off.close();
        let queued = self.hosts.take_queued(Instant::now());
        tracing::info!(
            attempts = self.in_flight,
            queued = queued.len(),
            "stopping, no further event is claimed"
        );
        for event in queued.iter().chain(&std::mem::take(&mut self.to_fetch)) {
            self.releases.push(event.release(Duration::ZERO));
        }
        while !self.is_drained() {
            self.start_settling();
            // The orphans of a claim whose reply was lost are released too.
            let now = Instant::now();
            if self.orphans.is_unanswered() && self.database.is_open(now) {
                self.start_search(now);
            }
            let timer = self.next_write(deadline);
            tokio::select! {
                biased;
                () = sleep_until(deadline) => {
                    tracing::warn!(attempts = self.in_flight, unsettled = self.batches.len(),
                        "SHUTDOWN_SECONDS elapsed, other workers reclaim the open claims");
                    return false;
                }
                Some(completion) = self.work.next(), if !self.work.is_empty() => {
                    completion(self);
                }
                // Its events are released.
                Some(batch) = self.parts.handed_over.recv() => self.on_handed_over(batch),
                () = sleep_until(timer) => {}
            }
        }
        tracing::info!("stopped, no claim is left");
        true
    }

    fn is_drained(&self) -> bool {
        let is_written = self.batches.is_idle() && self.releases.is_empty() && !self.is_releasing;
        let may_claim =
            self.scheduler.claiming() > 0 || self.is_fetching || self.orphans.is_unanswered();
        let may_arrive = self.parts.hand_off.reserved() > 0;
        self.in_flight == 0 && is_written && !may_claim && !may_arrive
    }

    fn start_work(&mut self) {
        // Settles and releases come first: they end claims that this worker already has.
        self.start_settling();
        let now = Instant::now();
        if !self.database.is_open(now) {
            self.parts.hand_off.close();
            return;
        }
        self.share_permits(now);
        self.start_fetching(now);
        self.start_reclaiming(now);
    }

    /// Permits in use: claims that this worker has and that are not yet settled or released.
    fn held(&self) -> usize {
        let unfetched = self.to_fetch.len() + usize::from(self.is_fetching);
        let unsent = self.hosts.queued() + unfetched + self.releases.len();
        self.in_flight + unsent + self.batches.len()
    }

    fn next_timer(&self) -> Instant {
        let now = Instant::now();
        let times = [
            self.sweeper.at(),
            self.batches.at(),
            self.hosts.check_at(now),
            self.orphans.at().filter(|_| self.scheduler.claiming() == 0),
        ];
        let next = times.into_iter().flatten().fold(self.scheduler.at(now), Instant::min);
        self.database.closed_until(now).unwrap_or(next)
    }

    /// Returns the next time to write or to search while draining. The timers of claims and sweeps
    /// do not count: neither runs any more, so their times stay in the past and the loop would spin.
    fn next_write(&self, deadline: Instant) -> Instant {
        let may_search = self.orphans.is_unanswered() && self.scheduler.claiming() == 0;
        let times = [self.batches.at(), self.orphans.at().filter(|_| may_search)];
        let next = times.into_iter().flatten().fold(deadline, Instant::min);
        self.database.closed_until(Instant::now()).unwrap_or(next)
    }
}
