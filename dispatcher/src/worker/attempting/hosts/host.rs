//! One host: its open attempts, its queue, its pace, and whether it responds.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use rand::{Rng, RngExt};
use tokio::time::Instant;

/// Maximum number of concurrent attempts at a host whose attempts ran into the deadline.
const TIMED_OUT_MAX: usize = 2;

/// A host with an open attempt is silent after this time without a response.
const SILENT_AFTER: Duration = Duration::from_secs(1);

/// Maximum expected wait in a host queue.
const QUEUE_WAIT_MAX: Duration = Duration::from_millis(250);

/// Assumed duration of an attempt before a host has finished any.
const FIRST_GUESS: Duration = Duration::from_millis(50);

/// Minimum delay of the events that a silent host refuses. It doubles each time that it has passed.
const SILENT_DELAY_MIN: Duration = Duration::from_secs(1);

/// Distance of the due times of such events, so that a deep backlog returns slowly.
const SILENT_SPREAD: Duration = Duration::from_millis(1);

/// Maximum delay of a released event, so that a host that has recovered is noticed.
pub(super) const DELAY_MAX: Duration = Duration::from_secs(60);

/// An attempt that was sent and has ended.
#[derive(Clone, Copy, Debug)]
pub(in crate::worker) struct Ended {
    pub(in crate::worker) started: Instant,
    /// The deadline passed without a complete response.
    pub(in crate::worker) is_timeout: bool,
}

#[derive(Debug)]
pub(super) struct Host<E> {
    /// `MAX_IN_FLIGHT_PER_HOST`.
    per_host_max: usize,
    in_flight: usize,
    /// Start times of the open attempts. The number distinguishes equal times.
    started: BTreeSet<(Instant, u64)>,
    started_count: u64,
    pub(super) queue: VecDeque<E>,
    /// Permits of this host that the sum for silent hosts contains.
    pub(super) counted_silent: usize,
    /// Moving average of the duration of an attempt.
    average: Duration,
    responded_at: Option<Instant>,
    /// An attempt ran into the deadline, and the host has not responded since that attempt started.
    pub(super) has_timed_out: bool,
    /// Events were refused since the host was last idle.
    has_refused: bool,
    /// Minimum delay while the host is silent, and the time at which it doubles.
    pub(super) silent_delay: Duration,
    silent_delay_until: Instant,
    /// Estimated time at which the host has finished all delayed events.
    pub(super) caught_up_at: Instant,
    /// No attempt starts before this time.
    pub(super) resting_until: Instant,
    pub(super) last_used: Instant,
}

impl<E> Host<E> {
    pub(super) fn new(per_host_max: usize, now: Instant) -> Self {
        Self {
            per_host_max,
            in_flight: 0,
            started: BTreeSet::new(),
            started_count: 0,
            queue: VecDeque::new(),
            counted_silent: 0,
            average: FIRST_GUESS,
            responded_at: None,
            has_timed_out: false,
            has_refused: false,
            silent_delay: SILENT_DELAY_MIN / 2,
            silent_delay_until: now,
            caught_up_at: now,
            resting_until: now,
            last_used: now,
        }
    }

    /// Returns the number of permits that the host holds.
    pub(super) fn held(&self) -> usize {
        self.in_flight + self.queue.len()
    }

    /// Returns true if the host has never responded, has timed out, or has kept an attempt open
    /// without a response for `SILENT_AFTER`.
    pub(super) fn is_silent(&self, now: Instant) -> bool {
        let Some(responded_at) = self.responded_at else { return true };
        let oldest = self.started.first();
        self.has_timed_out
            || oldest.is_some_and(|(started, _)| now - responded_at.max(*started) >= SILENT_AFTER)
    }

    pub(super) fn has_room(&self, now: Instant) -> bool {
        self.in_flight < self.in_flight_max() && now >= self.resting_until
    }

    fn in_flight_max(&self) -> usize {
        if self.has_timed_out { self.per_host_max.min(TIMED_OUT_MAX) } else { self.per_host_max }
    }

    pub(super) fn start(&mut self, now: Instant) {
        self.in_flight += 1;
        self.started_count += 1;
        self.started.insert((now, self.started_count));
        self.last_used = now;
    }

    /// Returns true if the host has refused events since it was last idle.
    pub(super) fn finished(&mut self, now: Instant, end: Ended) -> bool {
        let (took, was_silent) = (now - end.started, self.is_silent(now));
        self.in_flight -= 1;
        // The oldest entry goes, whichever attempt ended: the attempts of one host are alike.
        self.started.pop_first();
        self.average = self.average * 7 / 8 + took / 8;
        if !end.is_timeout {
            if self.has_timed_out || self.responded_at.is_none() {
                self.average = took;
            }
            if was_silent {
                self.silent_delay = SILENT_DELAY_MIN / 2;
                (self.silent_delay_until, self.caught_up_at) = (now, now);
            }
            self.responded_at = Some(now);
            self.has_timed_out = false;
        } else if self.responded_at.is_none_or(|at| at < end.started) {
            self.has_timed_out = true;
        }
        let had_refused = self.has_refused;
        self.has_refused &= self.held() > 0;
        had_refused
    }

    pub(super) fn not_sent(&mut self) {
        self.in_flight -= 1;
        // The newest entry goes: the oldest one shows how slow the host is.
        self.started.pop_last();
    }

    /// Returns the expected duration of an attempt: the average, or the age of the oldest open
    /// attempt if it is higher.
    pub(super) fn pace(&self, now: Instant) -> Duration {
        let oldest = self.started.first().map_or(Duration::ZERO, |(started, _)| now - *started);
        self.average.max(oldest).max(Duration::from_micros(1))
    }

    /// Returns the number of events that can wait without exceeding `QUEUE_WAIT_MAX`.
    pub(super) fn queue_max(&self, now: Instant) -> usize {
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
        let queue_max = (self.in_flight_max() as f64 * turns) as usize;
        queue_max
    }

    /// Returns the delay of an event that the host refuses: the time until the host has finished
    /// the events that were delayed before it. Of a silent host, this time is unknown.
    pub(super) fn delay(&mut self, now: Instant, rng: &mut impl Rng) -> Duration {
        self.has_refused = true;
        let is_silent = self.is_silent(now);
        let first = if is_silent { self.silent_delay(now) } else { QUEUE_WAIT_MAX };
        let max = u32::try_from(self.in_flight_max()).unwrap_or(u32::MAX);
        let pace = self.pace(now) / max;
        let each = if is_silent && !self.has_timed_out { SILENT_SPREAD } else { pace };
        let start = self.caught_up_at.max(now + first).max(self.resting_until);
        self.caught_up_at = (start + each).min(now + DELAY_MAX);
        // Random, because all events beyond DELAY_MAX would otherwise be due in one burst.
        (self.caught_up_at - now).mul_f64(rng.random_range(0.5..=1.0))
    }

    fn silent_delay(&mut self, now: Instant) -> Duration {
        if now >= self.silent_delay_until {
            self.silent_delay = (self.silent_delay * 2).min(DELAY_MAX);
            self.silent_delay_until = now + self.silent_delay;
        }
        self.silent_delay
    }
}
