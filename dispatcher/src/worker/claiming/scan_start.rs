//! Lower bound of the claim scan.
//!
//! A scan from the left end of `webhook_events_due` reads every leased row and every dead entry
//! that VACUUM has not removed. With 50,000 events of one hanging target, that was most of the cost
//! of a claim. Pure: times are inputs.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::Instant;

use crate::store::Claimed;

/// The scan starts this much before the first due time of the last claim. An event becomes visible
/// when its insert commits, which is after its due time.
const MARGIN: Duration = Duration::from_secs(2);

/// Maximum time between two full scans, or the poll interval if it is shorter. A full scan finds
/// events whose insert took longer than `MARGIN` to commit.
const FULL_SCAN_EVERY_MAX: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct ScanStart {
    full_scan_every: Duration,
    /// By the clock of the database.
    from: Option<DateTime<Utc>>,
    full_scan_started_at: Option<Instant>,
    /// The last scan had a lower bound, so it may have missed events.
    is_bounded: bool,
}

impl ScanStart {
    pub(super) fn new(poll_interval: Duration) -> Self {
        Self {
            full_scan_every: FULL_SCAN_EVERY_MAX.min(poll_interval),
            from: None,
            full_scan_started_at: None,
            is_bounded: false,
        }
    }

    /// Returns the lower bound for the claim that starts now, or `None` for a full scan.
    pub(super) fn of_claim(&mut self, now: Instant) -> Option<DateTime<Utc>> {
        let is_recent = self
            .full_scan_started_at
            .is_some_and(|at| now < at + self.full_scan_every);
        let from = self.from.filter(|_| is_recent);
        self.is_bounded = from.is_some();
        if !self.is_bounded {
            self.full_scan_started_at = Some(now);
        }
        from
    }

    /// Returns the latest time of the next full scan, or `None` if the last scan was a full one.
    pub(super) fn full_scan_at(&self) -> Option<Instant> {
        let started_at = self.full_scan_started_at.filter(|_| self.is_bounded);
        started_at.map(|at| at + self.full_scan_every)
    }

    /// A claim takes the earliest due events. So all others are due no earlier than its first one,
    /// or not yet if it was empty.
    pub(super) fn claimed(&mut self, claimed: &Claimed) {
        let first = claimed.first_due.unwrap_or(claimed.now);
        self.from = Some(first.min(claimed.now) - MARGIN);
    }

    /// The events that the failed claim saw are unknown, so the next scan is a full one.
    pub(super) fn claim_failed(&mut self) {
        self.full_scan_started_at = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: DateTime<Utc> = DateTime::UNIX_EPOCH;
    const POLL: Duration = Duration::from_millis(1_500);

    fn claimed(first_due: Option<DateTime<Utc>>) -> Claimed {
        Claimed {
            now: NOW,
            first_due,
            claims: Vec::new(),
        }
    }

    #[test]
    fn scan_starts_shortly_before_the_first_event_of_the_last_claim() {
        let now = Instant::now();
        let mut scan_start = ScanStart::new(POLL);
        assert_eq!(scan_start.of_claim(now), None, "the first claim");
        scan_start.claimed(&claimed(None));
        assert_eq!(scan_start.of_claim(now), Some(NOW - MARGIN));
        let due = NOW - Duration::from_secs(60);
        scan_start.claimed(&claimed(Some(due)));
        assert_eq!(scan_start.of_claim(now), Some(due - MARGIN));
    }

    #[test]
    fn one_scan_per_second_is_a_full_one() {
        let now = Instant::now();
        let mut scan_start = ScanStart::new(POLL);
        scan_start.of_claim(now);
        scan_start.claimed(&claimed(None));
        assert_eq!(scan_start.full_scan_at(), None, "no event was missed");
        let nearly = now + FULL_SCAN_EVERY_MAX - Duration::from_millis(1);
        assert!(scan_start.of_claim(nearly).is_some());
        let full = now + FULL_SCAN_EVERY_MAX;
        assert_eq!(scan_start.full_scan_at(), Some(full));
        assert_eq!(scan_start.of_claim(full), None);
        assert_eq!(scan_start.full_scan_at(), None);
        assert!(scan_start.of_claim(full).is_some());
    }

    #[test]
    fn full_scans_are_at_least_as_frequent_as_polls() {
        let (now, poll) = (Instant::now(), Duration::from_millis(200));
        let mut scan_start = ScanStart::new(poll);
        scan_start.of_claim(now);
        scan_start.claimed(&claimed(None));
        assert_eq!(scan_start.of_claim(now + poll), None);
    }

    #[test]
    fn failed_claim_is_followed_by_a_full_scan() {
        let now = Instant::now();
        let mut scan_start = ScanStart::new(POLL);
        scan_start.of_claim(now);
        scan_start.claimed(&claimed(None));
        scan_start.claim_failed();
        assert_eq!(scan_start.of_claim(now), None);
    }
}
