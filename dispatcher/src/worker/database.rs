//! Whether the database answers, as the worker sees it: when to try again, when to trust it, and what to log.
//!
//! Pure but for its log lines, of which an outage gets few.

use std::time::Duration;

use tokio::time::Instant;

use crate::store::StoreError;

/// The pause after the first failure; it doubles.
const PAUSE_MIN: Duration = Duration::from_millis(50);

/// No pause is longer, so that an outage is over for us within this time of its end.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Leases are ended by expiry only once the database has answered for so long without a break, since the start or since an
/// outage: others that were cut off settle what they hold first. A worker that comes new cannot know whether they were.
const STEADY: Duration = Duration::from_secs(5);

/// An outage is logged again after so long.
const REMIND: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Database {
    outage: Option<Outage>,
    /// Since when it answers without a break.
    steady_since: Instant,
}

#[derive(Debug)]
struct Outage {
    since: Instant,
    closed_until: Instant,
    pause: Duration,
    told_at: Instant,
}

impl Database {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            outage: None,
            steady_since: now,
        }
    }

    /// Whether to ask it anything now.
    pub(super) fn is_open(&self, now: Instant) -> bool {
        self.closed_until(now).is_none()
    }

    /// Until when not to ask it anything.
    pub(super) fn closed_until(&self, now: Instant) -> Option<Instant> {
        self.outage
            .as_ref()
            .map(|outage| outage.closed_until)
            .filter(|until| *until > now)
    }

    /// Whether it has answered for long enough to end the leases of others by expiry.
    pub(super) fn is_steady(&self, now: Instant) -> bool {
        self.outage.is_none() && now - self.steady_since >= STEADY
    }

    pub(super) fn answered(&mut self, now: Instant) {
        if let Some(outage) = self.outage.take() {
            self.steady_since = now;
            let away_ms = (now - outage.since).as_millis();
            tracing::info!(away_ms, "the database answers again");
        }
    }

    pub(super) fn failed(&mut self, error: &StoreError, now: Instant) {
        let Some(outage) = &mut self.outage else {
            tracing::warn!(%error, "the database does not answer: results are kept, nothing is claimed");
            let (pause, told_at) = (PAUSE_MIN, now);
            self.outage = Some(Outage {
                since: now,
                closed_until: now + pause,
                pause,
                told_at,
            });
            return;
        };
        // Calls that were under way together fail together: one pause for all of them.
        if outage.closed_until > now {
            return;
        }
        outage.pause = (outage.pause * 2).min(PAUSE_MAX);
        outage.closed_until = now + outage.pause;
        if now - outage.told_at >= REMIND {
            outage.told_at = now;
            let away_s = (now - outage.since).as_secs();
            tracing::warn!(%error, away_s, "the database still does not answer");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost() -> StoreError {
        StoreError::Unknown {
            doing: "testing",
            why: "cut".into(),
        }
    }

    #[test]
    fn pauses_double_to_their_bound_and_end_with_the_first_answer() {
        let mut now = Instant::now();
        let mut database = Database::new(now);
        let mut pauses = Vec::new();
        for _ in 0..7 {
            database.failed(&lost(), now);
            database.failed(&lost(), now);
            let until = database.closed_until(now).expect("closed after a failure");
            pauses.push((until - now).as_millis());
            now = until;
        }
        assert_eq!(pauses, [50, 100, 200, 400, 800, 1000, 1000]);
        database.answered(now);
        assert!(database.is_open(now));
    }

    #[test]
    fn leases_of_others_are_safe_for_five_seconds_after_the_start_and_after_an_outage() {
        let start = Instant::now();
        let mut database = Database::new(start);
        assert!(!database.is_steady(start + Duration::from_millis(4_999)));
        assert!(database.is_steady(start + STEADY));
        database.failed(&lost(), start + STEADY);
        assert!(
            !database.is_steady(start + Duration::from_secs(60)),
            "it is still away"
        );
        let back = start + Duration::from_secs(60);
        database.answered(back);
        assert!(!database.is_steady(back + Duration::from_millis(4_999)));
        assert!(database.is_steady(back + STEADY));
    }
}
