//! When to claim and how many: the earliest due time, wake-ups, free permits, and batches that are worth their commit.
//!
//! Pure: times come in, decisions go out.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::Instant;

use crate::store::CLAIM_BATCH_MAX;

/// Under a backlog, a claim waits for this many free permits, so that it is worth its commit …
const WORTH_CLAIMING: usize = 64;

/// … but no longer than this.
const WORTH_WAITING: Duration = Duration::from_millis(5);

#[derive(Debug)]
pub(super) struct Look {
    poll_interval: Duration,
    worth_claiming: usize,
    /// Something may be due.
    wanted: bool,
    /// A claim is under way.
    claiming: bool,
    /// The last claim took all that it asked for: there is a backlog.
    full: bool,
    /// Since when a claim under a backlog waits for more permits.
    waiting_since: Option<Instant>,
    /// The claim after which the next due time is to be asked for.
    ask_after: Option<DateTime<Utc>>,
    /// When to look again at the latest.
    at: Instant,
}

impl Look {
    pub(super) fn new(poll_interval: Duration, in_flight_max: usize, now: Instant) -> Self {
        Self {
            poll_interval,
            worth_claiming: WORTH_CLAIMING.min(in_flight_max.div_ceil(4)),
            wanted: true,
            claiming: false,
            full: false,
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
        match self.waiting_since {
            Some(since) if self.wanted && !self.claiming => {
                self.at.min(since + WORTH_WAITING).max(now)
            }
            _ => self.at,
        }
    }

    pub(super) fn on_timer(&mut self, now: Instant) {
        if now >= self.at {
            self.wanted = true;
            self.at = now + self.poll_interval;
        }
    }

    /// Something will be due after a delay.
    pub(super) fn due_in(&mut self, delay: Option<Duration>, now: Instant) {
        if let Some(delay) = delay {
            self.at = self.at.min(now + delay);
        }
    }

    /// How many to claim now, if it is time to.
    pub(super) fn claim(&mut self, free: usize, held: usize, now: Instant) -> Option<usize> {
        if !self.wanted || self.claiming || free == 0 {
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
        Some(free.min(CLAIM_BATCH_MAX))
    }

    /// A claim took `count` of the `asked` at `now` of the database.
    pub(super) fn claimed(&mut self, count: usize, asked: usize, now: DateTime<Utc>) {
        self.claiming = false;
        self.full = count >= asked;
        if self.full {
            self.wanted = true;
        } else {
            self.ask_after = Some(now);
        }
    }

    /// A claim was not even asked for.
    pub(super) fn claimed_nothing(&mut self) {
        self.claiming = false;
    }

    /// A claim failed, or its outcome is unknown: try again when the database answers.
    pub(super) fn claim_failed(&mut self) {
        self.claiming = false;
        self.wanted = true;
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

    fn look(now: Instant) -> Look {
        Look::new(Duration::from_millis(1_500), 512, now)
    }

    #[test]
    fn a_wake_during_a_claim_is_not_lost() {
        let now = Instant::now();
        let mut look = look(now);
        assert_eq!(look.claim(512, 0, now), Some(500));
        look.want();
        look.claimed(3, 500, DateTime::UNIX_EPOCH);
        assert_eq!(look.claim(509, 3, now), Some(500));
    }

    #[test]
    fn a_full_claim_asks_for_more_as_soon_as_it_is_worth_it() {
        let now = Instant::now();
        let mut look = look(now);
        look.claim(512, 0, now);
        look.claimed(500, 500, DateTime::UNIX_EPOCH);
        assert_eq!(look.claim(12, 500, now), None);
        assert_eq!(look.at(now), now + WORTH_WAITING);
        assert_eq!(look.claim(64, 448, now), Some(64));
        look.claimed(64, 64, DateTime::UNIX_EPOCH);
        assert_eq!(look.claim(1, 511, now), None);
        assert_eq!(
            look.claim(1, 511, now + WORTH_WAITING),
            Some(1),
            "but no wait is for ever"
        );
    }

    #[test]
    fn the_next_look_is_at_the_due_time_and_within_the_poll_interval() {
        let now = Instant::now();
        let mut look = look(now);
        look.claim(512, 0, now);
        look.claimed(0, 500, DateTime::UNIX_EPOCH);
        assert_eq!(look.next_due(), Some(DateTime::UNIX_EPOCH));
        assert_eq!(look.next_due(), None, "asked once");
        look.next_due_is(Some(Duration::from_millis(200)), now);
        assert_eq!(look.at(now), now + Duration::from_millis(200));
        look.next_due_is(Some(Duration::from_secs(60)), now);
        assert_eq!(look.at(now), now + Duration::from_millis(200));
        look.on_timer(now + Duration::from_millis(200));
        assert!(look.claim(512, 0, now).is_some());
        assert_eq!(look.at(now), now + Duration::from_millis(1_700));
    }
}
