//! Where a claim begins to look: not at the left end of the index of due events.
//!
//! There lie the leased and, until they are vacuumed away, the traces of all that were due. With 50,000 events of a hanging
//! target, deferred again and again, walking past them was most of what a claim cost.
//!
//! Pure: times come in, decisions go out.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::Instant;

use crate::store::Claimed;

/// A claim begins so much before what the last one found first: an event becomes visible when its insert commits, which is
/// later than it is due.
const MARGIN: Duration = Duration::from_secs(2);

/// So often a claim looks through everything, for what became visible later still; or as often as the worker polls.
const SWEEP_EVERY_MAX: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Beginning {
    sweep_every: Duration,
    /// By the database's clock.
    from: Option<DateTime<Utc>>,
    /// When a claim last looked through everything.
    swept_at: Option<Instant>,
    /// Something may have been left behind since.
    behind: bool,
}

impl Beginning {
    pub(super) fn new(poll_interval: Duration) -> Self {
        Self {
            sweep_every: SWEEP_EVERY_MAX.min(poll_interval),
            from: None,
            swept_at: None,
            behind: false,
        }
    }

    /// Before which due time the claim that is made now need not look; `None` if it is to look through everything.
    pub(super) fn of_claim(&mut self, now: Instant) -> Option<DateTime<Utc>> {
        let swept = self.swept_at.is_some_and(|at| now < at + self.sweep_every);
        let from = self.from.filter(|_| swept);
        self.behind = from.is_some();
        if !self.behind {
            self.swept_at = Some(now);
        }
        from
    }

    /// When everything is to be looked through at the latest, if a claim did not since that was done.
    pub(super) fn sweep_at(&self) -> Option<Instant> {
        let swept_at = self.swept_at.filter(|_| self.behind);
        swept_at.map(|at| at + self.sweep_every)
    }

    /// The earliest due come first, so all that is left is due no earlier than what was taken; or, where nothing was, not yet.
    pub(super) fn claimed(&mut self, claimed: &Claimed) {
        let first = claimed.first_due.unwrap_or(claimed.now);
        self.from = Some(first.min(claimed.now) - MARGIN);
    }

    /// Nobody knows what a claim saw that did not come through.
    pub(super) fn claim_failed(&mut self) {
        self.swept_at = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: DateTime<Utc> = DateTime::UNIX_EPOCH;
    const POLL: Duration = Duration::from_millis(1_500);

    fn found(first_due: Option<DateTime<Utc>>) -> Claimed {
        Claimed {
            now: NOW,
            first_due,
            claims: Vec::new(),
        }
    }

    #[test]
    fn a_claim_begins_shortly_before_what_the_last_one_found_first() {
        let now = Instant::now();
        let mut beginning = Beginning::new(POLL);
        assert_eq!(beginning.of_claim(now), None, "the first one");
        beginning.claimed(&found(None));
        assert_eq!(beginning.of_claim(now), Some(NOW - MARGIN));
        let due = NOW - Duration::from_secs(60);
        beginning.claimed(&found(Some(due)));
        assert_eq!(beginning.of_claim(now), Some(due - MARGIN));
    }

    #[test]
    fn once_a_second_a_claim_looks_through_everything() {
        let now = Instant::now();
        let mut beginning = Beginning::new(POLL);
        beginning.of_claim(now);
        beginning.claimed(&found(None));
        assert_eq!(beginning.sweep_at(), None, "nothing can be left behind");
        let nearly = now + SWEEP_EVERY_MAX - Duration::from_millis(1);
        assert!(beginning.of_claim(nearly).is_some());
        assert_eq!(beginning.sweep_at(), Some(now + SWEEP_EVERY_MAX));
        assert_eq!(beginning.of_claim(now + SWEEP_EVERY_MAX), None);
        assert_eq!(beginning.sweep_at(), None);
        assert!(beginning.of_claim(now + SWEEP_EVERY_MAX).is_some());
    }

    #[test]
    fn who_polls_more_often_looks_through_everything_each_time() {
        let (now, poll) = (Instant::now(), Duration::from_millis(200));
        let mut beginning = Beginning::new(poll);
        beginning.of_claim(now);
        beginning.claimed(&found(None));
        assert_eq!(beginning.of_claim(now + poll), None);
    }

    #[test]
    fn a_look_through_everything_that_failed_is_made_again() {
        let now = Instant::now();
        let mut beginning = Beginning::new(POLL);
        beginning.of_claim(now);
        beginning.claimed(&found(None));
        beginning.claim_failed();
        assert_eq!(beginning.of_claim(now), None);
    }
}
