//! Who may be sent to now: attempts at one host and port are capped, and a slow host must not keep permits from the others.
//!
//! Pure. An event whose host is at its cap waits in a short line if the host turns its attempts over quickly, and goes back
//! to the store, unsent and unburnt, if it does not. How long it stays away follows from the rate at which the host takes
//! attempts: so a deep backlog of a hanging target is spread out instead of being claimed over and over.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rand::{Rng, RngExt};
use tokio::time::Instant;

/// A wait in line is about this long at most.
const LINE_WAIT_MAX: Duration = Duration::from_millis(250);

/// What a host is taken for before it has shown how fast it answers.
const FIRST_GUESS: Duration = Duration::from_millis(50);

/// A deferral is at most this long, so that a host that recovers is found out.
const DEFERRAL_MAX: Duration = Duration::from_secs(60);

/// Deferred events come back on beats of this length, many at once: each alone would cost a claim and a release of its own.
const BEAT: Duration = Duration::from_millis(50);

/// How often lines are looked at while nothing ends.
const LINE_LOOK: Duration = Duration::from_millis(50);

/// Hosts that nothing was sent to for this long are forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(120);

/// As many hosts are known at once before the idle ones are forgotten; and twice as many as are left then, before it happens
/// again: a look at all of them may not come with every event.
const HOSTS_KNOWN: usize = 1_024;

/// A host and its port, as the URL names them.
pub(super) type HostKey = Arc<str>;

#[derive(Debug)]
pub(super) struct Hosts<E> {
    cap: usize,
    known: BTreeMap<HostKey, Host<E>>,
    /// So many make it worth looking for idle ones.
    forget_at: usize,
    waiting: usize,
    /// The first beat.
    zero: Option<Instant>,
}

#[derive(Debug)]
struct Host<E> {
    in_flight: usize,
    /// When the attempts under way began; the number keeps equal times apart.
    began: BTreeSet<(Instant, u64)>,
    begun: u64,
    line: VecDeque<E>,
    /// How long an attempt takes: a moving average.
    usual: Duration,
    /// When the host will have taken all that was deferred so far.
    taken_by: Instant,
    /// Nothing is sent to it before.
    resting_until: Instant,
    last_used: Instant,
}

/// What to do with a claimed event.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict<E> {
    /// Send it now.
    Start(E),
    /// It waits in its host's line.
    Wait,
    /// Release it, due again after the delay.
    Defer(E, Duration),
}

impl<E> Hosts<E> {
    pub(super) fn new(cap: usize) -> Self {
        Self {
            cap,
            known: BTreeMap::new(),
            forget_at: HOSTS_KNOWN,
            waiting: 0,
            zero: None,
        }
    }

    /// Events in lines.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    pub(super) fn admit(
        &mut self,
        key: HostKey,
        event: E,
        now: Instant,
        rng: &mut impl Rng,
    ) -> Verdict<E> {
        self.forget_idle(now);
        let zero = *self.zero.get_or_insert(now);
        let host = self.known.entry(key).or_insert_with(|| Host::new(now));
        host.last_used = now;
        if host.takes_more(self.cap, now) {
            host.begin(now);
            return Verdict::Start(event);
        }
        if host.line.len() < host.line_max(self.cap, now) {
            host.line.push_back(event);
            self.waiting += 1;
            return Verdict::Wait;
        }
        let delay = host.deferral(self.cap, now, rng);
        Verdict::Defer(event, on_beat(delay, now - zero))
    }

    fn forget_idle(&mut self, now: Instant) {
        if self.known.len() < self.forget_at {
            return;
        }
        self.known
            .retain(|_, host| host.is_busy() || now - host.last_used < FORGOTTEN_AFTER);
        self.forget_at = HOSTS_KNOWN.max(2 * self.known.len());
    }

    /// An attempt ended; `began` says when it was sent.
    pub(super) fn finished(&mut self, key: &HostKey, now: Instant, began: Instant) {
        if let Some(host) = self.known.get_mut(key) {
            host.in_flight -= 1;
            // Attempts of one host are alike: the oldest entry stands for whichever ended.
            host.began.pop_first();
            host.usual = host.usual * 7 / 8 + (now - began) / 8;
        }
    }

    /// The attempt that was just to begin is not made after all.
    pub(super) fn not_sent(&mut self, key: &HostKey) {
        if let Some(host) = self.known.get_mut(key) {
            host.in_flight -= 1;
            // The newest entry: the oldest tells how slow the host is with what was sent to it.
            host.began.pop_last();
        }
    }

    /// No further connection to this host can be made for now; its line is given back.
    pub(super) fn rest_until(&mut self, key: &HostKey, until: Instant) {
        if let Some(host) = self.known.get_mut(key) {
            host.resting_until = until;
        }
    }

    /// The next event in line, if the host has room: its attempt begins.
    pub(super) fn next(&mut self, key: &HostKey, now: Instant) -> Option<E> {
        let host = self.known.get_mut(key)?;
        if !host.takes_more(self.cap, now) {
            return None;
        }
        let next = host.line.pop_front()?;
        host.begin(now);
        self.waiting -= 1;
        Some(next)
    }

    /// Events whose line has become too slow for them, each with its deferral.
    pub(super) fn overdue(&mut self, now: Instant, rng: &mut impl Rng) -> Vec<(E, Duration)> {
        let mut overdue = Vec::new();
        let zero = self.zero.unwrap_or(now);
        if self.waiting > 0 {
            for host in self.known.values_mut().filter(|host| !host.line.is_empty()) {
                let most = host.line_max(self.cap, now);
                while host.line.len() > most
                    && let Some(event) = host.line.pop_back()
                {
                    let delay = host.deferral(self.cap, now, rng);
                    overdue.push((event, on_beat(delay, now - zero)));
                }
            }
        }
        self.waiting -= overdue.len();
        overdue
    }

    /// When the lines are to be looked at.
    pub(super) fn look_at(&self, now: Instant) -> Option<Instant> {
        (self.waiting > 0).then(|| now + LINE_LOOK)
    }

    /// Everything that waits, taken out.
    pub(super) fn empty_lines(&mut self) -> Vec<E> {
        self.waiting = 0;
        self.known
            .values_mut()
            .flat_map(|host| std::mem::take(&mut host.line))
            .collect()
    }
}

/// The delay until the last beat that is not later; `since` is how long ago the first one was.
fn on_beat(delay: Duration, since: Duration) -> Duration {
    let beats = (since + delay).as_nanos() / BEAT.as_nanos();
    let beat = BEAT.saturating_mul(u32::try_from(beats).unwrap_or(u32::MAX));
    beat.saturating_sub(since)
}

impl<E> Host<E> {
    fn new(now: Instant) -> Self {
        Self {
            in_flight: 0,
            began: BTreeSet::new(),
            begun: 0,
            line: VecDeque::new(),
            usual: FIRST_GUESS,
            taken_by: now,
            resting_until: now,
            last_used: now,
        }
    }

    fn is_busy(&self) -> bool {
        self.in_flight > 0 || !self.line.is_empty()
    }

    fn takes_more(&self, cap: usize, now: Instant) -> bool {
        self.in_flight < cap && now >= self.resting_until
    }

    fn begin(&mut self, now: Instant) {
        self.in_flight += 1;
        self.begun += 1;
        self.began.insert((now, self.begun));
        self.last_used = now;
    }

    /// How long an attempt takes, by the past or by the oldest that has not ended yet.
    fn pace(&self, now: Instant) -> Duration {
        let oldest = self
            .began
            .first()
            .map_or(Duration::ZERO, |(began, _)| now - *began);
        self.usual.max(oldest).max(Duration::from_micros(1))
    }

    /// How many can wait without waiting longer than `LINE_WAIT_MAX`.
    fn line_max(&self, cap: usize, now: Instant) -> usize {
        if now < self.resting_until {
            return 0;
        }
        let turns = LINE_WAIT_MAX.as_secs_f64() / self.pace(now).as_secs_f64();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a length of a line; it saturates"
        )]
        let most = (cap as f64 * turns) as usize;
        most
    }

    /// How long an event stays away: until the host has taken those that were deferred before it.
    fn deferral(&mut self, cap: usize, now: Instant, rng: &mut impl Rng) -> Duration {
        let each = self.pace(now) / u32::try_from(cap).unwrap_or(u32::MAX);
        let begin = self
            .taken_by
            .max(now + LINE_WAIT_MAX)
            .max(self.resting_until);
        self.taken_by = (begin + each).min(now + DEFERRAL_MAX);
        // Spread out, or all that were cut at the bound would come back in one burst.
        (self.taken_by - now).mul_f64(rng.random_range(0.5..=1.0))
    }
}

#[cfg(test)]
mod tests;
