//! Hosts: decides for each claimed event whether it starts, waits in the queue of its host, or is
//! delayed.
//!
//! Attempts per host and port are limited, so that a slow host does not use up the permits. Each
//! host has a short queue. An event that would wait longer is released, and the attempt is not
//! counted. Hosts that do not respond share a part of the permits, see [`Limits`]. Pure.

mod host;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand::Rng;
use tokio::time::Instant;

pub(in crate::worker) use self::host::Ended;
use self::host::Host;
use crate::host::HostKey;

/// Delays end on a grid of this width, so that many events are due together. Each separate due time
/// costs a claim and a release.
const TICK: Duration = Duration::from_millis(50);

/// Interval of the checks for queues that have become too slow, and for hosts that have become
/// silent.
const CHECK_EVERY: Duration = Duration::from_millis(50);

/// An idle host is forgotten after this time without an attempt.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(120);

/// Number of known hosts at which idle ones are forgotten. The next cleanup is at twice the number
/// that is left, but not below this one. A cleanup reads all hosts, so it must not run for every
/// event.
const HOSTS_KNOWN: usize = 1_024;

/// A host that holds fewer permits may use the reserve.
const LIGHT: usize = 2;

/// The settings that limit hosts. The parts of the permits follow from them.
#[derive(Clone, Copy, Debug)]
pub(in crate::worker) struct Limits {
    /// `MAX_IN_FLIGHT`.
    pub(in crate::worker) in_flight_max: usize,
    /// `MAX_IN_FLIGHT_PER_HOST`.
    pub(in crate::worker) per_host_max: usize,
}

/// Permits that all hosts hold together, in attempts and in queues.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    queued: usize,
    total: usize,
    /// Part of `total` that silent hosts hold.
    silent: usize,
}

#[derive(Debug)]
pub(in crate::worker) struct Hosts<E> {
    limits: Limits,
    known: BTreeMap<HostKey, Host<E>>,
    /// Hosts with open or queued attempts. Periodic checks read only these.
    busy: BTreeSet<HostKey>,
    held: Held,
    /// Time of the last check of all busy hosts.
    checked_at: Option<Instant>,
    /// Number of known hosts at which the next cleanup runs.
    cleanup_at: usize,
    /// Origin of the tick grid: the time of the first admission.
    zero: Option<Instant>,
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

impl Limits {
    /// Maximum number of permits of silent hosts when this host takes another one.
    fn silent_max<E>(self, host: &Host<E>) -> usize {
        let half = (self.in_flight_max / 2).max(1);
        if host.has_timed_out {
            return half;
        }
        // A limit per host above half of the permits is a decision of the operator.
        let max = half.max(self.per_host_max);
        // The first attempt at a new host, which shows whether it responds.
        if host.held() == 0 { max + self.in_flight_max / 4 } else { max }
    }

    /// Maximum number of all permits in use when a host that is not light takes another one. The
    /// reserve is for the others, if many hosts stop responding at the same time.
    fn heavy_max(self) -> usize {
        self.per_host_max.max(self.in_flight_max - self.in_flight_max / 8)
    }

    /// Maximum length of a host queue.
    fn queue_max(self) -> usize {
        (self.in_flight_max / 4).max(1)
    }

    fn admits<E>(self, held: Held, host: &Host<E>, now: Instant) -> bool {
        let is_silent = host.is_silent(now) && held.silent >= self.silent_max(host);
        let is_heavy = host.held() >= LIGHT && held.total >= self.heavy_max();
        !is_silent && !is_heavy
    }
}

impl<E> Hosts<E> {
    pub(in crate::worker) fn new(limits: Limits) -> Self {
        Self {
            limits,
            known: BTreeMap::new(),
            busy: BTreeSet::new(),
            held: Held::default(),
            checked_at: None,
            cleanup_at: HOSTS_KNOWN,
            zero: None,
        }
    }

    /// Returns the number of events in all queues.
    pub(in crate::worker) fn queued(&self) -> usize {
        self.held.queued
    }

    pub(in crate::worker) fn admit(
        &mut self,
        key: &HostKey,
        event: E,
        now: Instant,
        rng: &mut impl Rng,
    ) -> Admission<E> {
        self.forget_idle(now);
        let zero = *self.zero.get_or_insert(now);
        if !self.known.contains_key(key) {
            let host = Host::new(self.limits.per_host_max, now);
            self.known.insert(HostKey::clone(key), host);
        }
        let (limits, held) = (self.limits, self.held);
        let admit = |host: &mut Host<E>| {
            if limits.admits(held, host, now) {
                if host.has_room(now) {
                    host.start(now);
                    return Admission::Start(event);
                }
                if host.queue.len() < host.queue_max(now).min(limits.queue_max()) {
                    host.queue.push_back(event);
                    return Admission::Queued;
                }
            }
            Admission::Delay(event, on_tick(host.delay(now, rng), now - zero))
        };
        self.change(key, now, admit).expect("the host is known")
    }

    /// Changes a host and adjusts the sums.
    fn change<R>(
        &mut self,
        key: &HostKey,
        now: Instant,
        change: impl FnOnce(&mut Host<E>) -> R,
    ) -> Option<R> {
        let host = self.known.get_mut(key)?;
        let before = (host.queue.len(), host.held(), host.counted_silent);
        let result = change(host);
        host.counted_silent = if host.is_silent(now) { host.held() } else { 0 };
        let held = &mut self.held;
        held.queued = held.queued + host.queue.len() - before.0;
        held.total = held.total + host.held() - before.1;
        held.silent = held.silent + host.counted_silent - before.2;
        if host.held() == 0 {
            self.busy.remove(key);
        } else if before.1 == 0 {
            self.busy.insert(HostKey::clone(key));
        }
        Some(result)
    }

    fn forget_idle(&mut self, now: Instant) {
        if self.known.len() < self.cleanup_at {
            return;
        }
        self.known.retain(|_, host| host.held() > 0 || now - host.last_used < FORGOTTEN_AFTER);
        self.cleanup_at = HOSTS_KNOWN.max(2 * self.known.len());
    }

    /// An attempt that was sent has ended. Returns true if the host has refused events since it was
    /// last idle, so that more of its events may be due.
    pub(in crate::worker) fn finished(&mut self, key: &HostKey, now: Instant, end: Ended) -> bool {
        self.change(key, now, |host| host.finished(now, end)).unwrap_or(false)
    }

    /// An attempt that was just started was not sent.
    pub(in crate::worker) fn not_sent(&mut self, key: &HostKey, now: Instant) {
        self.change(key, now, Host::not_sent);
    }

    /// Starts no attempt at a host until a time, because this machine has no port left for it. Its
    /// queue becomes overdue.
    pub(in crate::worker) fn rest_until(&mut self, key: &HostKey, until: Instant) {
        if let Some(host) = self.known.get_mut(key) {
            host.resting_until = until;
        }
        self.checked_at = None;
    }

    /// Returns the next queued event and counts its attempt, if the host has room.
    pub(in crate::worker) fn next(&mut self, key: &HostKey, now: Instant) -> Option<E> {
        self.change(key, now, |host| {
            let next = host.has_room(now).then(|| host.queue.pop_front()).flatten()?;
            host.start(now);
            Some(next)
        })?
    }

    /// Takes out the events that would wait too long in their queues, each with its delay. Counts
    /// the hosts that have become silent.
    pub(in crate::worker) fn overdue(
        &mut self,
        now: Instant,
        rng: &mut impl Rng,
    ) -> Vec<(E, Duration)> {
        let mut overdue = Vec::new();
        if self.checked_at.is_some_and(|at| now < at + CHECK_EVERY) {
            return overdue;
        }
        self.checked_at = Some(now);
        let since = now - self.zero.unwrap_or(now);
        let busy: Vec<HostKey> = self.busy.iter().cloned().collect();
        for key in busy {
            self.change(&key, now, |host| {
                let kept = host.queue.len().min(host.queue_max(now));
                for event in host.queue.split_off(kept).into_iter().rev() {
                    overdue.push((event, on_tick(host.delay(now, rng), since)));
                }
            });
        }
        overdue
    }

    /// Returns the time of the next check for overdue events.
    pub(in crate::worker) fn check_at(&self, now: Instant) -> Option<Instant> {
        let next = self.checked_at.map_or(now, |at| at + CHECK_EVERY);
        (self.held.queued > 0).then_some(next)
    }

    /// Takes out all queued events.
    pub(in crate::worker) fn take_queued(&mut self, now: Instant) -> Vec<E> {
        let busy: Vec<HostKey> = self.busy.iter().cloned().collect();
        let take = |key| self.change(key, now, |host| std::mem::take(&mut host.queue));
        busy.iter().filter_map(take).flatten().collect()
    }
}

/// Shortens a delay so that it ends on a tick. `since` is the time since the first tick.
fn on_tick(delay: Duration, since: Duration) -> Duration {
    let ticks = (since + delay).as_nanos() / TICK.as_nanos();
    let tick = TICK.saturating_mul(u32::try_from(ticks).unwrap_or(u32::MAX));
    tick.saturating_sub(since)
}

#[cfg(test)]
mod tests;
