use super::*;
use crate::event::{Claim, ClaimKey, EventId, LeaseToken};

const CLAIM_MAX: Duration = Duration::from_secs(15);

const POLL: Duration = Duration::from_millis(1_500);

fn scheduler(now: Instant) -> Scheduler {
    Scheduler::new(POLL, 512, CLAIM_MAX, now)
}

fn lost() -> StoreError {
    StoreError::Unknown { operation: "testing", reason: "connection lost".into() }
}

fn unavailable() -> StoreError {
    StoreError::Unavailable { operation: "testing", reason: "connection refused".into() }
}

/// The result of a claim of `count` events with `bytes_each` bytes of payload.
fn taken(count: usize, bytes_each: usize) -> Claimed {
    let claim = Claim {
        key: ClaimKey { id: EventId::fresh(), token: LeaseToken(uuid::Uuid::nil()), number: 1 },
        failure_count: 0,
        target_url: String::new(),
        payload: vec![0; bytes_each],
        unfetched: 0,
    };
    Claimed {
        now: DateTime::UNIX_EPOCH,
        first_due: None,
        last_due: None,
        claims: vec![claim; count],
    }
}

/// Starts a claim that returns as many events as its limit allows. Returns that limit.
fn next_full(scheduler: &mut Scheduler, took: Duration) -> usize {
    let limit = scheduler.next_claim(512, 0, Instant::now()).expect("a claim is requested");
    scheduler.claimed(&taken(limit.events, 1), limit, took);
    limit.events
}

#[test]
fn wake_up_during_a_claim_is_not_lost() {
    let now = Instant::now();
    let mut scheduler = scheduler(now);
    assert_eq!(scheduler.next_claim(512, 0, now), Some(ClaimLimit::of(500)));
    scheduler.request();
    scheduler.claimed(&taken(3, 1), ClaimLimit::of(500), Duration::ZERO);
    assert!(scheduler.next_claim(509, 3, now).is_some());
}

// Found by seed 200228 of the simulation, in which the worker spun.
#[test]
fn paused_scheduler_does_not_wake_the_worker_for_a_backlog() {
    let now = Instant::now();
    let mut scheduler = scheduler(now);
    scheduler.next_claim(512, 0, now);
    let full = scheduler.claimed(&taken(500, 1), ClaimLimit::of(500), Duration::ZERO);
    scheduler.admitted(full, now);
    assert_eq!(scheduler.next_claim(12, 500, now), None);
    let later = now + BACKLOG_WAIT_MAX;
    assert_eq!(scheduler.at(later), later);
    scheduler.pause();
    assert!(scheduler.at(later) > later);
}

#[test]
fn claim_under_a_backlog_waits_for_permits_for_5_ms() {
    let now = Instant::now();
    let mut scheduler = scheduler(now);
    scheduler.next_claim(512, 0, now);
    let full = scheduler.claimed(&taken(500, 1), ClaimLimit::of(500), Duration::ZERO);
    scheduler.admitted(full, now);
    assert_eq!(scheduler.next_claim(12, 500, now), None);
    assert_eq!(scheduler.at(now), now + BACKLOG_WAIT_MAX);
    let limit = scheduler.next_claim(64, 448, now);
    assert_eq!(limit.map(|limit| limit.events), Some(64));
    scheduler.claimed(&taken(64, 1), ClaimLimit::of(64), Duration::ZERO);
    assert_eq!(scheduler.next_claim(1, 511, now), None);
    let limit = scheduler.next_claim(1, 511, now + BACKLOG_WAIT_MAX);
    assert_eq!(limit.map(|limit| limit.events), Some(1));
}

#[test]
fn claim_requested_during_a_rest_starts_after_it() {
    let now = Instant::now();
    let until = now + Duration::from_secs(1);
    let mut scheduler = scheduler(now);
    scheduler.rest_until(until);
    assert_eq!(scheduler.next_claim(512, 0, now), None);
    assert_eq!(scheduler.at(now), until);
    assert_eq!(scheduler.at(until), now + Duration::from_millis(1_500));
    assert!(scheduler.next_claim(512, 0, until).is_some());
}

// An insert that commits late makes its event visible behind the scan start. Only a full scan finds
// it.
#[test]
fn full_scan_follows_a_bounded_scan_within_a_second() {
    let zero = Instant::now();
    let mut scheduler = Scheduler::new(Duration::from_secs(3_600), 512, CLAIM_MAX, zero);
    for after_ms in [0, 300] {
        scheduler.request();
        let limit = scheduler.next_claim(512, 0, zero + Duration::from_millis(after_ms));
        let limit = limit.expect("a claim is requested");
        scheduler.claimed(&taken(0, 1), limit, Duration::ZERO);
    }
    let later = zero + Duration::from_secs(1);
    assert_eq!(scheduler.at(zero), later);
    scheduler.on_timer(later);
    assert_eq!(scheduler.next_claim(512, 0, later), Some(ClaimLimit::of(500)));
    assert_eq!(scheduler.at(later), later + Duration::from_secs(3_600));
}

// The limit of bytes cut the claim, so more events may be due, and no timer would start the next
// claim.
#[test]
fn claim_that_is_full_by_bytes_is_followed_immediately() {
    let now = Instant::now();
    let mut scheduler = scheduler(now);
    let limit = scheduler.next_claim(512, 0, now).expect("the first claim");
    scheduler.claimed(&taken(3, limit.bytes / 2), limit, Duration::ZERO);
    assert!(scheduler.next_claim(509, 3, now).is_some());
}

// A smaller claim can succeed where a large one timed out. A slow success must not grow, or the
// next claim would fail again.
#[test]
fn failed_claims_are_halved_and_quick_ones_grow_again() {
    let now = Instant::now();
    let mut scheduler = scheduler(now);
    let mut limits = Vec::new();
    for _ in 0..11 {
        let limit = scheduler.next_claim(512, 0, now).expect("a claim is requested");
        limits.push((limit.events, limit.bytes));
        scheduler.claim_failed(&lost());
    }
    assert_eq!(limits[..3], [(500, 8 << 20), (250, 4 << 20), (125, 2 << 20)]);
    assert_eq!(limits[9..], [(1, 16 << 10), (1, 16 << 10)]);
    assert_eq!(next_full(&mut scheduler, QUICK), 1);
    assert_eq!(next_full(&mut scheduler, QUICK), 1);
    assert_eq!(next_full(&mut scheduler, QUICK), 3);
    assert_eq!(next_full(&mut scheduler, QUICK * 2), 7);
    assert_eq!(next_full(&mut scheduler, QUICK), 7, "the last was slow");
    assert_eq!(next_full(&mut scheduler, QUICK), 15);
    scheduler.next_claim(512, 0, now);
    scheduler.claim_failed(&unavailable());
    assert_eq!(next_full(&mut scheduler, QUICK), 31, "an unreachable database does not halve");
}

// The rest of the leases is too short for an attempt, so the events are released.
#[test]
fn claim_that_leaves_too_little_lease_is_halved() {
    let mut scheduler = scheduler(Instant::now());
    assert_eq!(next_full(&mut scheduler, CLAIM_MAX * 2), 500);
    assert_eq!(next_full(&mut scheduler, CLAIM_MAX), 250);
    assert_eq!(next_full(&mut scheduler, QUICK), 250);
    assert_eq!(next_full(&mut scheduler, QUICK), 500);
    let mut narrow = Scheduler::new(QUICK, 512, QUICK, Instant::now());
    narrow.claim_failed(&lost());
    assert_eq!(next_full(&mut narrow, QUICK), 250);
    assert_eq!(next_full(&mut narrow, QUICK / 4), 250, "one second is slow for this lease");
    assert_eq!(next_full(&mut narrow, QUICK), 500);
}

#[test]
fn next_claim_is_at_the_due_time_but_not_after_the_poll() {
    let now = Instant::now();
    let mut scheduler = scheduler(now);
    scheduler.next_claim(512, 0, now);
    scheduler.claimed(&taken(0, 1), ClaimLimit::of(500), Duration::ZERO);
    assert_eq!(scheduler.next_due_after(), Some(DateTime::UNIX_EPOCH));
    assert_eq!(scheduler.next_due_after(), None, "read once");
    scheduler.set_next_due(Some(Duration::from_millis(200)), now);
    assert_eq!(scheduler.at(now), now + Duration::from_millis(200));
    scheduler.set_next_due(Some(Duration::from_secs(60)), now);
    assert_eq!(scheduler.at(now), now + Duration::from_millis(200));
    scheduler.on_timer(now + Duration::from_millis(200));
    let later = now + Duration::from_secs(1);
    assert!(scheduler.next_claim(512, 0, later).is_some());
    assert_eq!(scheduler.at(now), now + Duration::from_millis(1_700));
}

// Each claim that is not full starts a read. Reads that take seconds would use every connection.
#[test]
fn next_due_time_is_read_by_one_statement_at_a_time() {
    let now = Instant::now();
    let mut scheduler = scheduler(now);
    let claim = |scheduler: &mut Scheduler| {
        scheduler.request();
        let limit = scheduler.next_claim(512, 0, now).expect("it is requested");
        scheduler.claimed(&taken(0, 1), limit, Duration::ZERO);
    };
    claim(&mut scheduler);
    assert!(scheduler.next_due_after().is_some());
    claim(&mut scheduler);
    assert_eq!(scheduler.next_due_after(), None);
    scheduler.set_next_due(None, now);
    assert!(scheduler.next_due_after().is_some());
}
