use rand::SeedableRng;
use rand::rngs::StdRng;

use super::host::DELAY_MAX;
use super::*;

struct Fixture {
    hosts: Hosts<u32>,
    now: Instant,
    rng: StdRng,
}

const DEADLINE: Duration = Duration::from_secs(15);

impl Fixture {
    /// Four attempts per host, and permits that do not limit the test.
    fn new() -> Self {
        Self::with(100_000, 4)
    }

    fn with(in_flight_max: usize, per_host_max: usize) -> Self {
        Self {
            hosts: Hosts::new(Limits { in_flight_max, per_host_max }),
            now: Instant::now(),
            rng: StdRng::seed_from_u64(7),
        }
    }

    fn admit(&mut self, host: &str, event: u32) -> Admission<u32> {
        self.hosts.admit(&host.into(), event, self.now, &mut self.rng)
    }

    /// Admits events until the host refuses one. Returns the number of permits that the host then
    /// holds.
    fn saturate(&mut self, host: &str) -> usize {
        while !matches!(self.admit(host, 0), Admission::Delay(..)) {}
        self.hosts.known[host].held()
    }

    fn finish(&mut self, host: &str, took: Duration, is_timeout: bool) -> bool {
        let end = Ended { started: self.now - took, is_timeout };
        self.hosts.finished(&host.into(), self.now, end)
    }

    /// An attempt starts and ends with a response.
    fn respond(&mut self, host: &str) {
        assert!(matches!(self.admit(host, 0), Admission::Start(_)));
        self.finish(host, Duration::from_millis(5), false);
    }

    /// Lets all open attempts of a host run into the deadline.
    fn time_out(&mut self, host: &str) {
        for _ in 0..self.hosts.known[host].held() {
            self.finish(host, DEADLINE, true);
        }
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
    fixture.now += Duration::from_millis(1);
    fixture.finish("a:80", Duration::from_millis(1), false);
    assert_eq!(fixture.hosts.next(&"a:80".into(), fixture.now), Some(4));
    assert_eq!(fixture.hosts.queued(), 0);
}

#[test]
fn queue_of_a_hanging_host_becomes_overdue() {
    let mut fixture = Fixture::new();
    fixture.fill(4);
    let queued =
        (4..100).filter(|event| fixture.admit("a:80", *event) == Admission::Queued).count();
    assert_eq!(queued, 20, "4 concurrent attempts of 50 ms each, 250 ms of waiting");
    fixture.now += Duration::from_secs(1);
    let overdue = fixture.hosts.overdue(fixture.now, &mut fixture.rng);
    assert_eq!(overdue.len(), 19);
    assert_eq!(fixture.hosts.queued(), 1);
}

// 50,000 due events of a target whose attempts ran into the deadline. Their delays spread over the
// second half of DELAY_MAX.
#[test]
fn deep_backlog_of_a_hanging_host_is_spread_out() {
    let mut fixture = Fixture::new();
    fixture.fill(4);
    fixture.now += DEADLINE;
    fixture.time_out("a:80");
    let mut delays = Vec::new();
    for event in 0..50_000 {
        if let Admission::Delay(_, delay) = fixture.admit("a:80", event) {
            delays.push(delay);
        }
    }
    assert!(delays.len() > 49_990);
    assert!(delays.iter().all(|delay| *delay <= DELAY_MAX));
    let late = delays.iter().filter(|delay| **delay >= DELAY_MAX / 2).count();
    assert!(late > 49_900, "{late} of {}", delays.len());
    let first_half = delays.iter().filter(|delay| **delay < DELAY_MAX * 3 / 4).count();
    assert!((20_000..30_000).contains(&first_half), "{first_half} in the first half");
}

// Claims of one event each were most of the cost of a hanging target.
#[test]
fn delays_end_on_ticks() {
    let mut fixture = Fixture::new();
    fixture.respond("a:80");
    fixture.saturate("a:80");
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
        assert!(known <= fixture.hosts.cleanup_at, "each cleanup postpones the next");
    }
    let read: usize = cleanups.iter().sum();
    assert!(read <= 4 * 20_000, "{cleanups:?}");
    for host in 0..20_000 {
        fixture.finish(&format!("{host}:80"), Duration::ZERO, false);
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
    fixture.hosts.not_sent(&"a:80".into(), fixture.now);
    let host = &fixture.hosts.known["a:80"];
    assert_eq!((host.held(), host.pace(fixture.now)), (1, Duration::from_secs(9)));
}

#[test]
fn all_queued_events_can_be_taken_out() {
    let mut fixture = Fixture::new();
    fixture.fill(6);
    assert_eq!(fixture.hosts.take_queued(fixture.now), [4, 5]);
    assert_eq!(fixture.hosts.queued(), 0);
}

// Its ports are used up, so queued events would fail in the same way. Other hosts are not affected.
#[test]
fn resting_host_delays_its_queue_and_starts_nothing() {
    let mut fixture = Fixture::new();
    fixture.fill(6);
    let rest = Duration::from_secs(1);
    fixture.hosts.not_sent(&"a:80".into(), fixture.now);
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

// Hosts that hang from their first attempt must not take the permits before any attempt has timed
// out, whatever their number. A new host gets one attempt, so that it can show that it responds.
#[test]
fn new_hanging_hosts_leave_permits_for_others() {
    for hanging in [8, 40, 300, 1_000] {
        let mut fixture = Fixture::with(512, 64);
        fixture.respond("healthy:80");
        for host in 0..hanging {
            fixture.saturate(&format!("{host}:80"));
        }
        assert!(fixture.hosts.held.total <= 256 + 128, "{hanging} hosts");
        if hanging < 100 {
            assert_eq!(fixture.admit("new:80", 1), Admission::Start(1));
        }
        for event in 0..64 {
            assert_eq!(fixture.admit("healthy:80", event), Admission::Start(event));
        }
    }
}

#[test]
fn hosts_that_time_out_get_two_attempts_and_half_of_the_permits() {
    let mut fixture = Fixture::with(512, 64);
    for host in 0..300 {
        fixture.admit(&format!("{host}:80"), 0);
    }
    fixture.now += DEADLINE;
    for host in 0..300 {
        fixture.time_out(&format!("{host}:80"));
    }
    assert_eq!(fixture.saturate("0:80"), 2);
    for host in 1..300 {
        fixture.saturate(&format!("{host}:80"));
    }
    assert_eq!(fixture.hosts.held.total, 256);
    assert_eq!(fixture.admit("new:80", 1), Admission::Start(1));
}

#[test]
fn timed_out_host_is_unlimited_again_after_a_response() {
    let mut fixture = Fixture::new();
    fixture.fill(1);
    fixture.now += DEADLINE;
    fixture.time_out("a:80");
    fixture.fill(2);
    assert!(matches!(fixture.admit("a:80", 0), Admission::Delay(..)));
    fixture.finish("a:80", Duration::from_millis(5), false);
    for event in 0..3 {
        assert_eq!(fixture.admit("a:80", event), Admission::Start(event));
    }
}

// Some targets never respond to certain events. They are not hanging.
#[test]
fn host_that_responded_during_a_timed_out_attempt_is_not_limited() {
    let mut fixture = Fixture::new();
    fixture.fill(2);
    fixture.now += Duration::from_secs(1);
    fixture.finish("a:80", Duration::from_secs(1), false);
    fixture.now += DEADLINE - Duration::from_secs(1);
    fixture.finish("a:80", DEADLINE, true);
    for event in 0..4 {
        assert_eq!(fixture.admit("a:80", event), Admission::Start(event));
    }
}

// Hosts that responded and then hang are limited together after one second without a response, long
// before the deadline.
#[test]
fn hosts_that_stop_responding_count_as_silent_after_one_second() {
    let mut fixture = Fixture::with(64, 4);
    for host in 0..20 {
        fixture.respond(&format!("{host}:80"));
    }
    fixture.respond("healthy:80");
    for host in 0..20 {
        fixture.admit(&format!("{host}:80"), 0);
    }
    fixture.now += Duration::from_secs(1);
    fixture.hosts.overdue(fixture.now, &mut fixture.rng);
    assert_eq!(fixture.hosts.held.silent, 20);
    for host in 0..20 {
        fixture.saturate(&format!("{host}:80"));
    }
    assert_eq!(fixture.hosts.held.total, 32);
    assert_eq!(fixture.admit("healthy:80", 1), Admission::Start(1));
}

#[test]
fn last_eighth_of_the_permits_is_for_hosts_with_few_attempts() {
    let mut fixture = Fixture::with(64, 16);
    for host in ["a:80", "b:80", "c:80"] {
        fixture.respond(host);
    }
    let held = ["a:80", "b:80", "c:80"].map(|host| fixture.saturate(host));
    assert_eq!(held, [16 + 16, 24, 2]);
}

// It responds within 5 ms, so a queue of 250 ms would hold every permit.
#[test]
fn queue_of_a_quick_host_holds_a_quarter_of_the_permits() {
    let mut fixture = Fixture::with(512, 64);
    fixture.respond("a:80");
    assert_eq!(fixture.saturate("a:80"), 64 + 128);
}

// The delay doubles each time that it has passed, and starts again after a response.
#[test]
fn delays_of_a_silent_host_double_until_it_responds() {
    let mut fixture = Fixture::with(8, 1);
    fixture.admit("a:80", 0);
    fixture.admit("a:80", 0);
    fixture.admit("a:80", 0);
    let mut delays = Vec::new();
    for _ in 0..8 {
        let host = fixture.hosts.known.get_mut("a:80").expect("it is known");
        host.delay(fixture.now, &mut fixture.rng);
        delays.push(host.silent_delay.as_secs());
        fixture.now += host.silent_delay;
    }
    assert_eq!(delays, [1, 2, 4, 8, 16, 32, 60, 60]);
    fixture.finish("a:80", Duration::from_secs(9), false);
    assert!(fixture.hosts.known["a:80"].caught_up_at <= fixture.now);
}

// The loop checks after each completed future. With 15,000 known hosts, reading all of them made
// the worker 2.5 times slower.
#[test]
fn checks_read_only_busy_hosts_and_at_intervals() {
    let mut fixture = Fixture::new();
    for host in 0..1_000 {
        fixture.respond(&format!("{host}:80"));
    }
    fixture.saturate("0:80");
    assert_eq!(fixture.hosts.busy.len(), 1);
    fixture.hosts.overdue(fixture.now, &mut fixture.rng);
    fixture.now += Duration::from_millis(1);
    let next = fixture.hosts.check_at(fixture.now);
    assert_eq!(next, Some(fixture.now + Duration::from_millis(49)));
}

#[test]
fn host_makes_room_only_if_it_has_refused_events() {
    let mut fixture = Fixture::new();
    fixture.fill(1);
    assert!(!fixture.finish("a:80", Duration::from_millis(5), false));
    let held = fixture.saturate("a:80");
    for _ in 0..held {
        fixture.hosts.next(&"a:80".into(), fixture.now);
        assert!(fixture.finish("a:80", Duration::from_millis(5), false));
    }
    fixture.fill(1);
    assert!(!fixture.finish("a:80", Duration::from_millis(5), false));
}
