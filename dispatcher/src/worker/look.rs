//! When to claim and how many: the earliest due time, wake-ups, free permits, and batches that are worth their commit and
//! come through in time.
//!
//! Pure: times come in, decisions go out.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::Instant;

use super::beginning::Beginning;
use crate::store::{CLAIM_BATCH_MAX, CLAIM_BYTES_MAX, ClaimLimit, Claimed};

/// Under a backlog, a claim waits for this many free permits, so that it is worth its commit …
const WORTH_CLAIMING: usize = 64;

/// … but no longer than this.
const WORTH_WAITING: Duration = Duration::from_millis(5);

/// Claims are halved so often at most: by then it is one event.
const HALVINGS_MAX: u32 = 9;

/// A claim that was full and took no longer, nor a quarter of the time that it may take, may be followed by one of twice the
/// size, which will come through in time too.
const QUICK: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Look {
    poll_interval: Duration,
    worth_claiming: usize,
    /// A claim that takes longer leaves too little of its leases for an attempt.
    in_time: Duration,
    /// Something may be due.
    wanted: bool,
    /// A claim is under way.
    claiming: bool,
    /// The last claim took all that it asked for: there is a backlog.
    full: bool,
    /// How often claims were halved because one did not come through.
    halvings: u32,
    beginning: Beginning,
    /// Nothing is claimed before.
    resting_until: Option<Instant>,
    /// Since when a claim under a backlog waits for more permits.
    waiting_since: Option<Instant>,
    /// The claim after which the next due time is to be asked for.
    ask_after: Option<DateTime<Utc>>,
    /// When to look again at the latest.
    at: Instant,
}

impl Look {
    pub(super) fn new(
        poll_interval: Duration,
        in_flight_max: usize,
        in_time: Duration,
        now: Instant,
    ) -> Self {
        Self {
            poll_interval,
            in_time,
            worth_claiming: WORTH_CLAIMING.min(in_flight_max.div_ceil(4)),
            wanted: true,
            claiming: false,
            full: false,
            halvings: 0,
            beginning: Beginning::new(poll_interval),
            resting_until: None,
            waiting_since: None,
            ask_after: None,
            at: now + poll_interval,
        }
    }

    /// Something became due.
    pub(super) fn want(&mut self) {
        self.wanted = true;
    }

    pub(super) fn is_claiming(&self) -> bool {
        self.claiming
    }

    /// When the worker must wake for the sake of the next look.
    pub(super) fn at(&self, now: Instant) -> Instant {
        let rest = self.resting_until.filter(|until| *until > now);
        let wait = self
            .waiting_since
            .map(|since| (since + WORTH_WAITING).max(now));
        match rest.or(wait) {
            Some(until) if self.wanted && !self.claiming => self.at.min(until),
            _ => self.at,
        }
    }

    pub(super) fn on_timer(&mut self, now: Instant) {
        if now >= self.at {
            self.wanted = true;
            self.at = now + self.poll_interval;
        }
    }

    /// What would be claimed now could not be sent.
    pub(super) fn rest_until(&mut self, until: Instant) {
        self.resting_until = Some(until);
    }

    /// Something will be due after a delay.
    pub(super) fn due_in(&mut self, delay: Option<Duration>, now: Instant) {
        if let Some(delay) = delay {
            self.at = self.at.min(now + delay);
        }
    }

    /// How much to claim now, if it is time to.
    pub(super) fn claim(&mut self, free: usize, held: usize, now: Instant) -> Option<ClaimLimit> {
        let rests = self.resting_until.is_some_and(|until| now < until);
        if !self.wanted || self.claiming || free == 0 || rests {
            self.waiting_since = None;
            return None;
        }
        if self.full && held > 0 && free < self.worth_claiming {
            let since = *self.waiting_since.get_or_insert(now);
            if now - since < WORTH_WAITING {
                return None;
            }
        }
        self.waiting_since = None;
        self.wanted = false;
        self.claiming = true;
        let due_from = self.beginning.of_claim(now);
        if let Some(at) = self.beginning.sweep_at() {
            // What this claim may leave behind does not wait for the poll.
            self.at = self.at.min(at);
        }
        Some(ClaimLimit {
            events: free.min((CLAIM_BATCH_MAX >> self.halvings).max(1)),
            bytes: CLAIM_BYTES_MAX >> self.halvings,
            due_from,
        })
    }

    /// A claim of so much came through in so long.
    pub(super) fn claimed(&mut self, claimed: &Claimed, asked: ClaimLimit, took: Duration) {
        self.claiming = false;
        self.beginning.claimed(claimed);
        let bytes: usize = claimed.claims.iter().map(|claim| claim.payload.len()).sum();
        self.full = claimed.claims.len() >= asked.events || bytes >= asked.bytes;
        if took > self.in_time && !claimed.claims.is_empty() {
            // It goes back unsent, and would do so for ever.
            self.halve();
        }
        if self.full {
            self.wanted = true;
            if took <= QUICK.min(self.in_time / 4) {
                self.halvings = self.halvings.saturating_sub(1);
            }
        } else {
            self.ask_after = Some(claimed.now);
        }
    }

    /// A claim was not even asked for.
    pub(super) fn claimed_nothing(&mut self) {
        self.claiming = false;
    }

    /// A claim failed, or its outcome is unknown: try again when the database answers, perhaps with less.
    pub(super) fn claim_failed(&mut self, asks_for_less: bool) {
        self.claiming = false;
        self.wanted = true;
        self.beginning.claim_failed();
        if asks_for_less {
            self.halve();
        }
    }

    fn halve(&mut self) {
        self.halvings = (self.halvings + 1).min(HALVINGS_MAX);
    }

    /// After which claim to ask for the next due time, once.
    pub(super) fn next_due(&mut self) -> Option<DateTime<Utc>> {
        if self.wanted {
            None
        } else {
            self.ask_after.take()
        }
    }

    pub(super) fn next_due_is(&mut self, next: Option<Duration>, now: Instant) {
        self.at = self
            .at
            .min(now + next.unwrap_or(self.poll_interval).min(self.poll_interval));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Claim, ClaimKey, EventId, LeaseToken};

    const IN_TIME: Duration = Duration::from_secs(15);

    fn look(now: Instant) -> Look {
        Look::new(Duration::from_millis(1_500), 512, IN_TIME, now)
    }

    /// A claim that came back with so many events of so many bytes each.
    fn taken(count: usize, bytes_each: usize) -> Claimed {
        let claim = Claim {
            key: ClaimKey {
                id: EventId::fresh(),
                token: LeaseToken(uuid::Uuid::nil()),
                number: 1,
            },
            failure_count: 0,
            target_url: String::new(),
            payload: vec![0; bytes_each],
        };
        Claimed {
            now: DateTime::UNIX_EPOCH,
            first_due: None,
            claims: vec![claim; count],
        }
    }

    /// How many events the next claim asks for, and back it comes with all of them after so long.
    fn next_full(look: &mut Look, took: Duration) -> usize {
        let asked = look
            .claim(512, 0, Instant::now())
            .expect("a backlog is wanted");
        look.claimed(&taken(asked.events, 1), asked, took);
        asked.events
    }

    #[test]
    fn a_wake_during_a_claim_is_not_lost() {
        let now = Instant::now();
        let mut look = look(now);
        assert_eq!(look.claim(512, 0, now), Some(ClaimLimit::of(500)));
        look.want();
        look.claimed(&taken(3, 1), ClaimLimit::of(500), Duration::ZERO);
        assert!(look.claim(509, 3, now).is_some());
    }

    #[test]
    fn a_full_claim_asks_for_more_as_soon_as_it_is_worth_it() {
        let now = Instant::now();
        let mut look = look(now);
        look.claim(512, 0, now);
        look.claimed(&taken(500, 1), ClaimLimit::of(500), Duration::ZERO);
        assert_eq!(look.claim(12, 500, now), None);
        assert_eq!(look.at(now), now + WORTH_WAITING);
        assert_eq!(look.claim(64, 448, now).map(|asked| asked.events), Some(64));
        look.claimed(&taken(64, 1), ClaimLimit::of(64), Duration::ZERO);
        assert_eq!(look.claim(1, 511, now), None);
        let asked = look.claim(1, 511, now + WORTH_WAITING);
        assert_eq!(
            asked.map(|asked| asked.events),
            Some(1),
            "but no wait is for ever"
        );
    }

    #[test]
    fn a_rest_ends_by_itself_and_what_was_wanted_meanwhile_is_claimed_then() {
        let now = Instant::now();
        let until = now + Duration::from_secs(1);
        let mut look = look(now);
        look.rest_until(until);
        assert_eq!(look.claim(512, 0, now), None);
        assert_eq!(look.at(now), until);
        assert_eq!(look.at(until), now + Duration::from_millis(1_500));
        assert!(look.claim(512, 0, until).is_some());
    }

    // An event that became visible late is behind the beginning: nothing but a look through everything finds it.
    #[test]
    fn after_a_claim_with_a_beginning_one_without_follows_within_a_second() {
        let zero = Instant::now();
        let mut look = Look::new(Duration::from_secs(3_600), 512, IN_TIME, zero);
        for after_ms in [0, 300] {
            look.want();
            let asked = look.claim(512, 0, zero + Duration::from_millis(after_ms));
            let asked = asked.expect("it is wanted");
            look.claimed(&taken(0, 1), asked, Duration::ZERO);
        }
        let later = zero + Duration::from_secs(1);
        assert_eq!(look.at(zero), later);
        look.on_timer(later);
        assert_eq!(look.claim(512, 0, later), Some(ClaimLimit::of(500)));
        assert_eq!(look.at(later), later + Duration::from_secs(3_600));
    }

    // It was cut by its bytes: there is more, and nothing but another claim would tell when.
    #[test]
    fn a_claim_that_is_full_by_its_bytes_is_followed_by_another_at_once() {
        let now = Instant::now();
        let mut look = look(now);
        let asked = look.claim(512, 0, now).expect("at the start");
        look.claimed(&taken(3, asked.bytes / 2), asked, Duration::ZERO);
        assert!(look.claim(509, 3, now).is_some());
    }

    // What one claim cannot bring in time, a smaller one can; and a slow one that just came through is not made larger, or it
    // would fail again.
    #[test]
    fn claims_that_do_not_come_through_are_halved_and_grow_again_while_they_are_quick() {
        let now = Instant::now();
        let mut look = look(now);
        let mut asked = Vec::new();
        for _ in 0..11 {
            let limit = look.claim(512, 0, now).expect("it is wanted");
            asked.push((limit.events, limit.bytes));
            look.claim_failed(true);
        }
        assert_eq!(asked[..3], [(500, 8 << 20), (250, 4 << 20), (125, 2 << 20)]);
        assert_eq!(asked[9..], [(1, 16 << 10), (1, 16 << 10)]);
        assert_eq!(next_full(&mut look, QUICK), 1);
        assert_eq!(next_full(&mut look, QUICK), 1);
        assert_eq!(next_full(&mut look, QUICK), 3);
        assert_eq!(next_full(&mut look, QUICK * 2), 7);
        assert_eq!(next_full(&mut look, QUICK), 7, "it was slow");
        assert_eq!(next_full(&mut look, QUICK), 15);
        look.claim(512, 0, now);
        look.claim_failed(false);
        assert_eq!(
            next_full(&mut look, QUICK),
            31,
            "out of reach says nothing of its size"
        );
    }

    // Its events go back unsent, because their leases are too short for an attempt by then.
    #[test]
    fn a_claim_that_comes_too_late_for_its_leases_is_halved_as_well() {
        let mut look = look(Instant::now());
        assert_eq!(next_full(&mut look, IN_TIME * 2), 500);
        assert_eq!(next_full(&mut look, IN_TIME), 250);
        assert_eq!(next_full(&mut look, QUICK), 250);
        assert_eq!(next_full(&mut look, QUICK), 500);
        let mut narrow = Look::new(QUICK, 512, QUICK, Instant::now());
        narrow.claim_failed(true);
        assert_eq!(next_full(&mut narrow, QUICK), 250);
        assert_eq!(
            next_full(&mut narrow, QUICK / 4),
            250,
            "a second was slow here"
        );
        assert_eq!(next_full(&mut narrow, QUICK), 500);
    }

    #[test]
    fn the_next_look_is_at_the_due_time_and_within_the_poll_interval() {
        let now = Instant::now();
        let mut look = look(now);
        look.claim(512, 0, now);
        look.claimed(&taken(0, 1), ClaimLimit::of(500), Duration::ZERO);
        assert_eq!(look.next_due(), Some(DateTime::UNIX_EPOCH));
        assert_eq!(look.next_due(), None, "asked once");
        look.next_due_is(Some(Duration::from_millis(200)), now);
        assert_eq!(look.at(now), now + Duration::from_millis(200));
        look.next_due_is(Some(Duration::from_secs(60)), now);
        assert_eq!(look.at(now), now + Duration::from_millis(200));
        look.on_timer(now + Duration::from_millis(200));
        assert!(look.claim(512, 0, now + Duration::from_secs(1)).is_some());
        assert_eq!(look.at(now), now + Duration::from_millis(1_700));
    }
}
