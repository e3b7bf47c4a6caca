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
        let known = fixture.hosts.known.len();
        assert!(
            known <= fixture.hosts.forget_at,
            "each look puts off the next"
        );
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

// Its ports are spent: what waits for it would meet the same, and the others are not concerned.
#[test]
fn a_host_that_rests_gives_its_line_back_and_takes_nothing_until_it_has_rested() {
    let mut fixture = Fixture::new();
    fixture.fill(6);
    let rest = Duration::from_secs(1);
    fixture.hosts.not_sent(&"a:80".into());
    fixture.hosts.rest_until(&"a:80".into(), fixture.now + rest);
    assert_eq!(fixture.hosts.next(&"a:80".into(), fixture.now), None);
    assert!(matches!(fixture.admit("a:80", 6), Verdict::Defer(6, _)));
    let overdue = fixture.hosts.overdue(fixture.now, &mut fixture.rng);
    assert_eq!(overdue.len(), 2);
    assert!(overdue.iter().all(|(_, delay)| *delay >= rest / 2));
    assert_eq!(fixture.admit("b:80", 7), Verdict::Start(7));
    fixture.now += rest;
    assert_eq!(fixture.admit("a:80", 8), Verdict::Start(8));
}
