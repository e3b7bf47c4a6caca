use super::*;

const FRONT: Place = Place::Front { events: CLAIM_BATCH_MAX };

fn at_ms(ms: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::milliseconds(ms)
}

/// A full claim of 100 events at 10 s. Their hosts refused some.
fn full(place: Place, last_due_ms: i64, refused: usize) -> ClaimResult {
    ClaimResult {
        place,
        now: at_ms(10_000),
        last_due: at_ms(last_due_ms),
        events: 100,
        is_full: true,
        is_partial: false,
        refused,
    }
}

fn not_full(place: Place) -> ClaimResult {
    ClaimResult { is_full: false, ..full(place, 10_000, 0) }
}

struct Fixture {
    backlog: Backlog,
    now: Instant,
}

impl Fixture {
    /// The first claim of a process found events that were due at 0 s, and their hosts refused
    /// them.
    fn refused() -> Self {
        let mut fixture = Self { backlog: Backlog::new(64), now: Instant::now() };
        fixture.backlog.claimed(full(FRONT, 0, 100), fixture.now);
        fixture
    }

    fn next(&mut self, is_requested: bool) -> Option<Place> {
        let place = self.backlog.next(is_requested, self.now)?;
        self.backlog.start(place);
        Some(place)
    }

    /// Starts a claim of recent events. Returns it with its scan start.
    fn beyond(&mut self) -> (Place, DateTime<Utc>) {
        let place = self.next(true).expect("a claim is requested");
        let Place::Beyond { from, .. } = place else {
            panic!("{place:?}");
        };
        (place, from)
    }

    fn claimed(&mut self, result: ClaimResult) {
        self.backlog.claimed(result, self.now);
    }
}

#[test]
fn without_a_backlog_each_claim_is_at_the_front() {
    let mut backlog = Backlog::new(64);
    let now = Instant::now();
    for _ in 0..3 {
        assert_eq!(backlog.next(true, now), Some(FRONT));
        backlog.claimed(not_full(FRONT), now);
        assert_eq!(backlog.next(false, now), None);
    }
}

// A million events that were due at 0 s: the next claims start after all of them. They find the
// recent events of other hosts.
#[test]
fn claim_of_recent_events_starts_beyond_the_refused_ones() {
    let mut fixture = Fixture::refused();
    let (place, from) = fixture.beyond();
    assert_eq!(from, at_ms(0));
    fixture.claimed(full(place, 0, 100));
    let (place, from) = fixture.beyond();
    assert_eq!(from, at_ms(1));
    fixture.claimed(not_full(place));
    assert_eq!(fixture.beyond().1, at_ms(8_000), "the margin before 10 s");
}

// The backlog came and went, and then came again. What was seen before it need not be walked over.
#[test]
fn later_backlog_begins_where_all_events_were_seen() {
    let mut fixture = Fixture::refused();
    fixture.claimed(not_full(FRONT));
    fixture.claimed(full(FRONT, 5_000, 0));
    assert_eq!(fixture.beyond().1, at_ms(8_000));
}

// A backlog that arrived over eight seconds is passed in a few claims. No step passes over the
// events of the last two seconds.
#[test]
fn steps_over_refused_events_double_and_end_at_recent_ones() {
    let mut fixture = Fixture::refused();
    let mut starts = Vec::new();
    while starts.len() < 40 {
        let (place, from) = fixture.beyond();
        starts.push(from);
        if from >= at_ms(8_000) {
            break;
        }
        fixture.claimed(full(place, from.timestamp_millis(), 100));
    }
    assert!(starts.len() < 20, "{} claims", starts.len());
    assert!(starts.windows(2).all(|pair| pair[0] < pair[1]));
    assert_eq!(starts.last(), Some(&at_ms(8_000)));
    let (place, _) = fixture.beyond();
    fixture.claimed(full(place, 9_000, 100));
    assert_eq!(fixture.beyond().1, at_ms(9_000));
}

// An insert may commit after a claim that saw later events.
#[test]
fn events_that_become_visible_late_are_in_the_next_claim() {
    let mut fixture = Fixture::refused();
    let (place, _) = fixture.beyond();
    fixture.claimed(full(place, 9_999, 0));
    let (place, from) = fixture.beyond();
    assert_eq!(from, at_ms(9_999));
    fixture.claimed(not_full(place));
    assert_eq!(fixture.beyond().1, at_ms(8_000));
}

// Otherwise the front would take the room of a busy host, and its refused events would be refused
// again each time.
#[test]
fn refused_events_that_return_take_room_before_the_front() {
    let mut fixture = Fixture::refused();
    (0..64).for_each(|_| fixture.backlog.made_room(fixture.now));
    let (place, _) = fixture.beyond();
    fixture.claimed(full(place, 9_000, 30));
    assert_eq!(fixture.next(false), None);
}

// Events of other hosts among the refused ones: the walk continues without steps.
#[test]
fn admitted_events_end_the_steps() {
    let mut fixture = Fixture::refused();
    let (place, _) = fixture.beyond();
    fixture.claimed(full(place, 600, 100));
    let (place, from) = fixture.beyond();
    assert_eq!(from, at_ms(601));
    fixture.claimed(full(place, 700, 10));
    assert_eq!(fixture.beyond().1, at_ms(700));
}

#[test]
fn refused_front_is_claimed_as_attempts_end() {
    let mut fixture = Fixture::refused();
    for _ in 0..64 {
        assert_eq!(fixture.next(false), None);
        fixture.backlog.made_room(fixture.now);
    }
    let front = Place::Front { events: 64 + 8 + 1 };
    assert_eq!(fixture.next(false), Some(front));
    fixture.claimed(full(front, 0, 5));
    fixture.backlog.made_room(fixture.now);
    assert_eq!(fixture.next(false), None);
    fixture.now += ROOM_WAIT_MAX;
    assert_eq!(fixture.backlog.front_at(), Some(fixture.now));
    assert_eq!(fixture.next(false), Some(Place::Front { events: 2 }));
}

// Posts request a claim all the time, and the hosts of the backlog admit all events.
#[test]
fn front_and_recent_events_take_turns() {
    let mut fixture = Fixture::refused();
    let (place, _) = fixture.beyond();
    fixture.now += PROBE_EVERY;
    fixture.claimed(full(place, 0, 0));
    let mut fronts = Vec::new();
    for _ in 0..4 {
        let place = fixture.next(true).expect("a claim is requested");
        fronts.push(matches!(place, Place::Front { .. }));
        fixture.claimed(full(place, 0, 0));
    }
    assert_eq!(fronts, [true, false, true, false]);
}

// The target recovers, so probes are admitted, grow, and follow each other.
#[test]
fn admitted_probes_grow_and_a_refused_one_waits() {
    let mut fixture = Fixture::refused();
    assert_eq!(fixture.next(false), None);
    for events in [64, 128, 256, 500, 500] {
        if events == 64 {
            fixture.now += PROBE_EVERY;
        }
        let front = Place::Front { events };
        assert_eq!(fixture.next(false), Some(front));
        fixture.claimed(full(front, 0, 50));
    }
    fixture.next(false);
    fixture.claimed(full(FRONT, 0, 51));
    assert_eq!(fixture.next(false), None);
    let next = fixture.now + PROBE_EVERY;
    assert_eq!(fixture.backlog.front_at(), Some(next));
}

// Nothing else is due, so no event waits behind others.
#[test]
fn front_claim_that_is_not_full_ends_the_backlog() {
    let mut fixture = Fixture::refused();
    assert!(fixture.backlog.is_deep());
    fixture.claimed(not_full(FRONT));
    assert!(!fixture.backlog.is_deep());
}

// A slow full scan goes in ranges. Another range may hold the backlog.
#[test]
fn range_that_is_not_full_does_not_end_the_backlog() {
    let mut fixture = Fixture::refused();
    fixture.claimed(ClaimResult { is_partial: true, ..not_full(FRONT) });
    assert!(fixture.backlog.is_deep());
}

// Events of other hosts that became due among the refused ones must not wait for all of those.
#[test]
fn walk_from_the_front_is_repeated() {
    let mut fixture = Fixture::refused();
    let (place, _) = fixture.beyond();
    fixture.claimed(not_full(place));
    fixture.now += WALK_EVERY;
    let front = fixture.next(false).expect("a probe is due");
    fixture.claimed(full(front, 500, 100));
    assert_eq!(fixture.beyond().1, at_ms(501));
}
