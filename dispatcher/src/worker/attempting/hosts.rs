//! Hosts: decides for each claimed event whether it starts, waits in the queue of its host, or is
//! delayed.
//!
//! Attempts per host and port are limited, so that a slow host does not use up the permits. Each
//! host has a short queue. An event that would wait longer is released, and the attempt is not
//! counted. Its delay follows from the rate at which the host finishes attempts. So the backlog of
//! a hanging target is spread out and not claimed again and again. Pure.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rand::{Rng, RngExt};
use tokio::time::Instant;

/// Maximum expected wait in a host queue.
const QUEUE_WAIT_MAX: Duration = Duration::from_millis(250);

/// Assumed duration of an attempt before a host has finished any.
const FIRST_GUESS: Duration = Duration::from_millis(50);

/// Maximum delay of a released event, so that a host that has recovered is noticed.
const DELAY_MAX: Duration = Duration::from_secs(60);

/// Delays end on a grid of this width, so that many events are due together. Each separate due time
/// costs a claim and a release.
const TICK: Duration = Duration::from_millis(50);

/// Interval of the checks for queues that have become too slow.
const QUEUE_CHECK: Duration = Duration::from_millis(50);

/// An idle host is forgotten after this time without an attempt.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(120);

/// Number of known hosts at which idle ones are forgotten. The next cleanup is at twice the number
/// that is left, but not below this one. A cleanup reads all hosts, so it must not run for every
/// event.
const HOSTS_KNOWN: usize = 1_024;

/// Host and port of a target URL.
pub(in crate::worker) type HostKey = Arc<str>;

#[derive(Debug)]
pub(in crate::worker) struct Hosts<E> {
    in_flight_max: usize,
    known: BTreeMap<HostKey, Host<E>>,
    /// Number of known hosts at which the next cleanup runs.
    cleanup_at: usize,
    queued: usize,
    /// Origin of the tick grid: the time of the first admission.
    zero: Option<Instant>,
}

#[derive(Debug)]
struct Host<E> {
    in_flight: usize,
    /// Start times of the open attempts. The number distinguishes equal times.
    started: BTreeSet<(Instant, u64)>,
    started_count: u64,
    queue: VecDeque<E>,
    /// Moving average of the duration of an attempt.
    average: Duration,
    /// Estimated time at which the host has finished all delayed events.
    caught_up_at: Instant,
    /// No attempt starts before this time.
    resting_until: Instant,
    last_used: Instant,
}

/// Decision for a claimed event.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::worker) enum Admission<E> {
    /// The attempt starts now.
    Start(E),
    /// The event waits in the queue of its host.
    Queued,
    /// The event is released and is due again after the delay.
    Delay(E, Duration),
}

impl<E> Hosts<E> {
    pub(in crate::worker) fn new(in_flight_max: usize) -> Self {
        Self {
            in_flight_max,
            known: BTreeMap::new(),
            cleanup_at: HOSTS_KNOWN,
            queued: 0,
            zero: None,
        }
    }

    /// Returns the number of events in all queues.
    pub(in crate::worker) fn queued(&self) -> usize {
        self.queued
    }

    pub(in crate::worker) fn admit(
        &mut self,
        key: HostKey,
        event: E,
        now: Instant,
        rng: &mut impl Rng,
    ) -> Admission<E> {
        self.forget_idle(now);
        let zero = *self.zero.get_or_insert(now);
        let host = self.known.entry(key).or_insert_with(|| Host::new(now));
        host.last_used = now;
        if host.has_room(self.in_flight_max, now) {
            host.start(now);
            return Admission::Start(event);
        }
        if host.queue.len() < host.queue_max(self.in_flight_max, now) {
            host.queue.push_back(event);
            self.queued += 1;
            return Admission::Queued;
        }
        let delay = host.delay(self.in_flight_max, now, rng);
        Admission::Delay(event, on_tick(delay, now - zero))
    }

    fn forget_idle(&mut self, now: Instant) {
        if self.known.len() < self.cleanup_at {
            return;
        }
        self.known
            .retain(|_, host| host.is_busy() || now - host.last_used < FORGOTTEN_AFTER);
        self.cleanup_at = HOSTS_KNOWN.max(2 * self.known.len());
    }

    /// An attempt that was sent at `started` has ended.
    pub(in crate::worker) fn finished(&mut self, key: &HostKey, now: Instant, started: Instant) {
        if let Some(host) = self.known.get_mut(key) {
            host.in_flight -= 1;
            // The oldest entry goes, whichever attempt ended: the attempts of one host are alike.
            host.started.pop_first();
            host.average = host.average * 7 / 8 + (now - started) / 8;
        }
    }

    /// An attempt that was just started was not sent.
    pub(in crate::worker) fn not_sent(&mut self, key: &HostKey) {
        if let Some(host) = self.known.get_mut(key) {
            host.in_flight -= 1;
            // The newest entry goes: the oldest one shows how slow the host is.
            host.started.pop_last();
        }
    }

    /// Starts no attempt at a host until a time, because this machine has no port left for it. Its
    /// queue becomes overdue.
    pub(in crate::worker) fn rest_until(&mut self, key: &HostKey, until: Instant) {
        if let Some(host) = self.known.get_mut(key) {
            host.resting_until = until;
        }
    }

    /// Returns the next queued event and counts its attempt, if the host has room.
    pub(in crate::worker) fn next(&mut self, key: &HostKey, now: Instant) -> Option<E> {
        let host = self.known.get_mut(key)?;
        if !host.has_room(self.in_flight_max, now) {
            return None;
        }
        let next = host.queue.pop_front()?;
        host.start(now);
        self.queued -= 1;
        Some(next)
    }

    /// Takes out the events that would wait too long in their queues, each with its delay.
    pub(in crate::worker) fn overdue(
        &mut self,
        now: Instant,
        rng: &mut impl Rng,
    ) -> Vec<(E, Duration)> {
        let mut overdue = Vec::new();
        let zero = self.zero.unwrap_or(now);
        if self.queued > 0 {
            for host in self
                .known
                .values_mut()
                .filter(|host| !host.queue.is_empty())
            {
                let queue_max = host.queue_max(self.in_flight_max, now);
                while host.queue.len() > queue_max
                    && let Some(event) = host.queue.pop_back()
                {
                    let delay = host.delay(self.in_flight_max, now, rng);
                    overdue.push((event, on_tick(delay, now - zero)));
                }
            }
        }
        self.queued -= overdue.len();
        overdue
    }

    /// Returns the time of the next check for overdue events.
    pub(in crate::worker) fn check_at(&self, now: Instant) -> Option<Instant> {
        (self.queued > 0).then(|| now + QUEUE_CHECK)
    }

    /// Takes out all queued events.
    pub(in crate::worker) fn take_queued(&mut self) -> Vec<E> {
        self.queued = 0;
        self.known
            .values_mut()
            .flat_map(|host| std::mem::take(&mut host.queue))
            .collect()
    }
}

/// Shortens a delay so that it ends on a tick. `since` is the time since the first tick.
fn on_tick(delay: Duration, since: Duration) -> Duration {
    let ticks = (since + delay).as_nanos() / TICK.as_nanos();
    let tick = TICK.saturating_mul(u32::try_from(ticks).unwrap_or(u32::MAX));
    tick.saturating_sub(since)
}

impl<E> Host<E> {
    fn new(now: Instant) -> Self {
        Self {
            in_flight: 0,
            started: BTreeSet::new(),
            started_count: 0,
            queue: VecDeque::new(),
            average: FIRST_GUESS,
            caught_up_at: now,
            resting_until: now,
            last_used: now,
        }
    }

    fn is_busy(&self) -> bool {
        self.in_flight > 0 || !self.queue.is_empty()
    }

    fn has_room(&self, in_flight_max: usize, now: Instant) -> bool {
        self.in_flight < in_flight_max && now >= self.resting_until
    }

    fn start(&mut self, now: Instant) {
        self.in_flight += 1;
        self.started_count += 1;
        self.started.insert((now, self.started_count));
        self.last_used = now;
    }

    /// Returns the expected duration of an attempt: the average, or the age of the oldest open
    /// attempt if it is higher.
    fn pace(&self, now: Instant) -> Duration {
        let oldest = self
            .started
            .first()
            .map_or(Duration::ZERO, |(started, _)| now - *started);
        self.average.max(oldest).max(Duration::from_micros(1))
    }

    /// Returns the number of events that can wait without exceeding `QUEUE_WAIT_MAX`.
    fn queue_max(&self, in_flight_max: usize, now: Instant) -> usize {
        if now < self.resting_until {
            return 0;
        }
        let turns = QUEUE_WAIT_MAX.as_secs_f64() / self.pace(now).as_secs_f64();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a queue length, which saturates"
        )]
        let queue_max = (in_flight_max as f64 * turns) as usize;
        queue_max
    }

    /// Returns the delay of an event: the time until the host has finished the events that were
    /// delayed before it.
    fn delay(&mut self, in_flight_max: usize, now: Instant, rng: &mut impl Rng) -> Duration {
        let each = self.pace(now) / u32::try_from(in_flight_max).unwrap_or(u32::MAX);
        let start = self
            .caught_up_at
            .max(now + QUEUE_WAIT_MAX)
            .max(self.resting_until);
        self.caught_up_at = (start + each).min(now + DELAY_MAX);
        // Random, because all events beyond DELAY_MAX would otherwise be due in one burst.
        (self.caught_up_at - now).mul_f64(rng.random_range(0.5..=1.0))
    }
}

#[cfg(test)]
mod tests;
