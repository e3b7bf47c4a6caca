use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;

struct Fixture {
    hosts: Hosts<u32>,
    now: Instant,
    rng: StdRng,
}

impl Fixture {
    /// Four attempts per host.
    fn new() -> Self {
        Self {
            hosts: Hosts::new(4),
            now: Instant::now(),
            rng: StdRng::seed_from_u64(7),
        }
    }

    fn admit(&mut self, host: &str, event: u32) -> Admission<u32> {
        self.hosts
            .admit(host.into(), event, self.now, &mut self.rng)
    }

    fn fill(&mut self, events: u32) {
        for event in 0..events {
            self.admit("a:80", event);
        }
    }
}

#[test]
fn host_at_its_limit_queues_and_other_hosts_start() {
    let mut fixture = Fixture::new();
    for event in 0..4 {
        assert_eq!(fixture.admit("a:80", event), Admission::Start(event));
    }
    assert_eq!(fixture.admit("a:80", 4), Admission::Queued);
    assert_eq!(fixture.admit("b:80", 5), Admission::Start(5));
    let started = fixture.now;
    fixture.now += Duration::from_millis(1);
    fixture.hosts.finished(&"a:80".into(), fixture.now, started);
    assert_eq!(fixture.hosts.next(&"a:80".into(), fixture.now), Some(4));
    assert_eq!(fixture.hosts.queued(), 0);
}

#[test]
fn queue_of_a_hanging_host_becomes_overdue() {
    let mut fixture = Fixture::new();
    fixture.fill(4);
    let queued = (4..100)
        .filter(|event| fixture.admit("a:80", *event) == Admission::Queued)
        .count();
    assert_eq!(
        queued, 20,
        "4 concurrent attempts of 50 ms each, 250 ms of waiting"
    );
    fixture.now += Duration::from_secs(1);
    let overdue = fixture.hosts.overdue(fixture.now, &mut fixture.rng);
    assert_eq!(overdue.len(), 19);
    assert_eq!(fixture.hosts.queued(), 1);
}

// 50,000 due events of a target that finishes one in about 4 s. Their delays spread over the second
// half of DELAY_MAX.
#[test]
fn deep_backlog_of_a_slow_host_is_spread_out() {
    let mut fixture = Fixture::new();
    fixture.fill(4);
    fixture.now += Duration::from_secs(15);
    let mut delays = Vec::new();
    for event in 0..50_000 {
        if let Admission::Delay(_, delay) = fixture.admit("a:80", event) {
            delays.push(delay);
        }
    }
    assert!(delays.len() > 49_990);
    assert!(delays.iter().all(|delay| *delay <= DELAY_MAX));
    let late = delays
        .iter()
        .filter(|delay| **delay >= DELAY_MAX / 2)
        .count();
    assert!(late > 49_900, "{late} of {}", delays.len());
    let first_half = delays
        .iter()
        .filter(|delay| **delay < DELAY_MAX * 3 / 4)
        .count();
    assert!(
        (20_000..30_000).contains(&first_half),
        "{first_half} in the first half"
    );
}

// Claims of one event each were most of the cost of a hanging target.
#[test]
fn delays_end_on_ticks() {
    let mut fixture = Fixture::new();
    fixture.fill(24);
    let zero = fixture.now;
    let mut ticks = BTreeSet::new();
    for event in 0..10_000 {
        fixture.now += Duration::from_micros(777);
        let Admission::Delay(_, delay) = fixture.admit("a:80", event) else {
            panic!("the queue is full");
        };
        let due = fixture.now + delay - zero;
        assert_eq!(due.as_nanos() % TICK.as_nanos(), 0);
        ticks.insert(due);
    }
    let ticks_max = (DELAY_MAX.as_millis() + 7_770) / TICK.as_millis();
    assert!(ticks.len() as u128 <= ticks_max, "{} ticks", ticks.len());
}

// A cleanup for every admission would read all hosts each time: 20,000 x 20,000 reads.
#[test]
fn many_hosts_cause_few_cleanups_and_idle_ones_are_forgotten() {
    let mut fixture = Fixture::new();
    let mut cleanups = BTreeSet::new();
    for host in 0..20_000 {
        fixture.admit(&format!("{host}:80"), host);
        cleanups.insert(fixture.hosts.cleanup_at);
        let known = fixture.hosts.known.len();
        assert!(
            known <= fixture.hosts.cleanup_at,
            "each cleanup postpones the next"
        );
    }
    let read: usize = cleanups.iter().sum();
    assert!(read <= 4 * 20_000, "{cleanups:?}");
    for host in 0..20_000 {
        let started = fixture.now;
        let key = HostKey::from(format!("{host}:80"));
        fixture.hosts.finished(&key, started, started);
    }
    fixture.now += FORGOTTEN_AFTER;
    for host in 20_000..60_000 {
        fixture.admit(&format!("{host}:80"), host);
    }
    assert_eq!(fixture.hosts.known.len(), 40_000, "the busy hosts");
}

// If the oldest entry were removed, a hanging host would look like a fast one.
#[test]
fn unsent_attempt_does_not_change_the_pace() {
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
fn all_queued_events_can_be_taken_out() {
    let mut fixture = Fixture::new();
    fixture.fill(6);
    assert_eq!(fixture.hosts.take_queued(), [4, 5]);
    assert_eq!(fixture.hosts.queued(), 0);
}

// Its ports are used up, so queued events would fail in the same way. Other hosts are not affected.
#[test]
fn resting_host_delays_its_queue_and_starts_nothing() {
    let mut fixture = Fixture::new();
    fixture.fill(6);
    let rest = Duration::from_secs(1);
    fixture.hosts.not_sent(&"a:80".into());
    fixture.hosts.rest_until(&"a:80".into(), fixture.now + rest);
    assert_eq!(fixture.hosts.next(&"a:80".into(), fixture.now), None);
    assert!(matches!(fixture.admit("a:80", 6), Admission::Delay(6, _)));
    let overdue = fixture.hosts.overdue(fixture.now, &mut fixture.rng);
    assert_eq!(overdue.len(), 2);
    assert!(overdue.iter().all(|(_, delay)| *delay >= rest / 2));
    assert_eq!(fixture.admit("b:80", 7), Admission::Start(7));
    fixture.now += rest;
    assert_eq!(fixture.admit("a:80", 8), Admission::Start(8));
}
