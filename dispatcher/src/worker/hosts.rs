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
        if host.in_flight < self.cap {
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

    /// The next event in line, if the host has room: its attempt begins.
    pub(super) fn next(&mut self, key: &HostKey, now: Instant) -> Option<E> {
        let host = self.known.get_mut(key)?;
        if host.in_flight >= self.cap {
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
            last_used: now,
        }
    }

    fn is_busy(&self) -> bool {
        self.in_flight > 0 || !self.line.is_empty()
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
        let begin = self.taken_by.max(now + LINE_WAIT_MAX);
        self.taken_by = (begin + each).min(now + DEFERRAL_MAX);
        // Spread out, or all that were cut at the bound would come back in one burst.
        (self.taken_by - now).mul_f64(rng.random_range(0.5..=1.0))
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    struct Fixture {
        hosts: Hosts<u32>,
        now: Instant,
        rng: StdRng,
    }

    impl Fixture {
        fn new() -> Self {
            Self {
                hosts: Hosts::new(4),
                now: Instant::now(),
                rng: StdRng::seed_from_u64(7),
            }
        }

        fn admit(&mut self, host: &str, event: u32) -> Verdict<u32> {
            self.hosts
                .admit(host.into(), event, self.now, &mut self.rng)
        }
    }

    impl Fixture {
        fn fill(&mut self, events: u32) {
            for event in 0..events {
                self.admit("a:80", event);
            }
        }
    }

    #[test]
    fn a_host_at_its_cap_makes_a_line_and_the_others_are_not_concerned() {
        let mut fixture = Fixture::new();
        for event in 0..4 {
            assert_eq!(fixture.admit("a:80", event), Verdict::Start(event));
        }
        assert_eq!(fixture.admit("a:80", 4), Verdict::Wait);
        assert_eq!(fixture.admit("b:80", 5), Verdict::Start(5));
        let began = fixture.now;
        fixture.now += Duration::from_millis(1);
        fixture.hosts.finished(&"a:80".into(), fixture.now, began);
        assert_eq!(fixture.hosts.next(&"a:80".into(), fixture.now), Some(4));
        assert_eq!(fixture.hosts.waiting(), 0);
    }

    #[test]
    fn the_line_of_a_hanging_host_is_given_back_as_it_goes_on_hanging() {
        let mut fixture = Fixture::new();
        fixture.fill(4);
        let admitted = (4..100)
            .filter(|event| fixture.admit("a:80", *event) == Verdict::Wait)
            .count();
        assert_eq!(
            admitted, 20,
            "4 at once, 50 ms each as a first guess, 250 ms of waiting"
        );
        fixture.now += Duration::from_secs(1);
        let overdue = fixture.hosts.overdue(fixture.now, &mut fixture.rng);
        assert_eq!(overdue.len(), 19);
        assert_eq!(fixture.hosts.waiting(), 1);
    }

    // 50,000 due events of a target that takes one in about 4 s: they stay away for about a minute, spread out.
    #[test]
    fn a_deep_backlog_of_a_slow_host_is_spread_over_the_longest_deferral() {
        let mut fixture = Fixture::new();
        fixture.fill(4);
        fixture.now += Duration::from_secs(15);
        let mut delays = Vec::new();
        for event in 0..50_000 {
            if let Verdict::Defer(_, delay) = fixture.admit("a:80", event) {
                delays.push(delay);
            }
        }
        assert!(delays.len() > 49_990);
        assert!(delays.iter().all(|delay| *delay <= DEFERRAL_MAX));
        let late = delays
            .iter()
            .filter(|delay| **delay >= DEFERRAL_MAX / 2)
            .count();
        assert!(late > 49_900, "{late} of {}", delays.len());
        let first_half = delays
            .iter()
            .filter(|delay| **delay < DEFERRAL_MAX * 3 / 4)
            .count();
        assert!(
            (20_000..30_000).contains(&first_half),
            "{first_half} in the first half"
        );
    }

    // Claims of one event each were most of what a hanging target cost.
    #[test]
    fn deferred_events_come_back_many_at_once() {
        let mut fixture = Fixture::new();
        fixture.fill(24);
        let zero = fixture.now;
        let mut beats = BTreeSet::new();
        for event in 0..10_000 {
            fixture.now += Duration::from_micros(777);
            let Verdict::Defer(_, delay) = fixture.admit("a:80", event) else {
                panic!("the line is full");
            };
            let back = fixture.now + delay - zero;
            assert_eq!(back.as_nanos() % BEAT.as_nanos(), 0);
            beats.insert(back);
        }
        let most = (DEFERRAL_MAX.as_millis() + 7_770) / BEAT.as_millis();
        assert!(beats.len() as u128 <= most, "{} beats", beats.len());
    }

    // Every admission of another host used to walk all of them, once there were so many: a thousand walks for each thousand.
    #[test]
    fn a_crowd_of_hosts_is_looked_through_a_few_times_and_idle_ones_are_forgotten() {
        let mut fixture = Fixture::new();
        let mut looks = BTreeSet::new();
        for host in 0..20_000 {
            fixture.admit(&format!("{host}:80"), host);
            looks.insert(fixture.hosts.forget_at);
        }
        let walked: usize = looks.iter().sum();
        assert!(walked <= 4 * 20_000, "{looks:?}");
        for host in 0..20_000 {
            let began = fixture.now;
            let key = HostKey::from(format!("{host}:80"));
            fixture.hosts.finished(&key, began, began);
        }
        fixture.now += FORGOTTEN_AFTER;
        for host in 20_000..60_000 {
            fixture.admit(&format!("{host}:80"), host);
        }
        assert_eq!(fixture.hosts.known.len(), 40_000, "the busy ones");
    }

    // Had the oldest been taken out, a host that hangs would have looked like one that answers.
    #[test]
    fn an_attempt_that_is_not_sent_leaves_the_pace_of_those_that_were() {
        let mut fixture = Fixture::new();
        fixture.fill(1);
        fixture.now += Duration::from_secs(9);
        fixture.fill(1);
        fixture.hosts.not_sent(&"a:80".into());
        let host = &fixture.hosts.known["a:80"];
        assert_eq!(
            (host.in_flight, host.pace(fixture.now)),
            (1, Duration::from_secs(9))
        );
    }

    #[test]
    fn what_waits_can_be_taken_out_whole() {
        let mut fixture = Fixture::new();
        fixture.fill(6);
        assert_eq!(fixture.hosts.empty_lines(), [4, 5]);
        assert_eq!(fixture.hosts.waiting(), 0);
    }
}
