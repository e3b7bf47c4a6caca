//! Lower bound of the claim scan.
//!
//! A scan from the left end of `webhook_events_due` reads every leased row and every dead entry
//! that VACUUM has not removed. With 50,000 events of one hanging target, that was most of the cost
//! of a claim. Pure: times are inputs.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::Instant;

use crate::store::{Claimed, DueRange};
use crate::worker::due_ranges::{DueRanges, QUICK, SHARE};

/// The scan starts this much before the first due time of the last claim. An event becomes visible
/// when its insert commits, which is after its due time.
const MARGIN: Duration = Duration::from_secs(2);

/// Time between two full scans, or the poll interval if it is shorter. A full scan finds events
/// whose insert took longer than `MARGIN` to commit. After slow ones, see [`SHARE`].
const FULL_SCAN_EVERY_MAX: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct ScanStart {
    full_scan_every: Duration,
    /// By the clock of the database.
    from: Option<DateTime<Utc>>,
    /// A full scan may consist of several claims, one per range.
    ranges: DueRanges,
    full_scan_at: Option<Instant>,
    /// The last scan had a lower bound, so it may have missed events.
    is_bounded: bool,
}

/// Bounds of the due times that a claim scans, as in [`ClaimLimit`](crate::store::ClaimLimit).
pub(super) type ScanBounds = (Option<DateTime<Utc>>, DueRange);

impl ScanStart {
    pub(super) fn new(poll_interval: Duration) -> Self {
        Self {
            full_scan_every: FULL_SCAN_EVERY_MAX.min(poll_interval),
            from: None,
            ranges: DueRanges::new(),
            full_scan_at: None,
            is_bounded: false,
        }
    }

    /// Returns the bounds of the claim that starts now.
    pub(super) fn of_claim(&mut self, now: Instant) -> ScanBounds {
        let is_due = self.full_scan_at.is_none_or(|at| now >= at);
        // The ranges of a slow full scan alternate with claims that start at the scan start.
        let waits = self.ranges.is_divided() && !self.is_bounded;
        self.is_bounded = !is_due || waits;
        if !self.is_bounded {
            self.full_scan_at = Some(now + self.full_scan_every);
            return (None, self.ranges.next());
        }
        let oldest = self.from.is_none().then_some(MARGIN);
        (self.from, DueRange { oldest, ..DueRange::ALL })
    }

    /// Returns the latest time of the next full scan or range, or `None` if the last scan missed
    /// nothing.
    pub(super) fn full_scan_at(&self) -> Option<Instant> {
        self.full_scan_at.filter(|_| self.is_bounded || self.ranges.is_divided())
    }

    /// Returns true if the last claim scanned one range of a divided full scan.
    pub(super) fn is_partial(&self) -> bool {
        !self.is_bounded && self.ranges.is_divided()
    }

    /// A claim takes the earliest due events of its range. So all others are due no earlier than
    /// its first one, or not yet if it was empty. `is_full` is true if its limit was reached.
    pub(super) fn claimed(&mut self, claimed: &Claimed, is_full: bool, took: Duration) {
        let range = self.ranges.next();
        if self.is_bounded || is_full || range.newest.is_zero() {
            let first = claimed.first_due.unwrap_or(claimed.now);
            self.from = Some(first.min(claimed.now) - MARGIN);
        }
        // A full claim left the rest of its range, and the payloads may have taken its time.
        if self.is_bounded || is_full {
            return;
        }
        let is_next_immediate = !self.ranges.scanned(took) && took <= QUICK;
        let every = self.full_scan_every.max(took * SHARE);
        let pause = if is_next_immediate { Duration::ZERO } else { every };
        self.full_scan_at = self.full_scan_at.map(|at| at - self.full_scan_every + pause);
    }

    /// The events that the failed claim saw are unknown, so the next scan is a full one. If the
    /// statement took too long, so would the next one with the same bounds.
    pub(super) fn claim_failed(&mut self, is_timeout: bool) {
        if !is_timeout {
            self.full_scan_at = None;
            return;
        }
        if self.is_bounded {
            // The full scan finds the rest, in ranges.
            self.from = None;
        }
        if !self.is_bounded || !self.ranges.is_divided() {
            self.ranges.halve();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: DateTime<Utc> = DateTime::UNIX_EPOCH;
    const POLL: Duration = Duration::from_millis(1_500);

    fn claimed(first_due: Option<DateTime<Utc>>) -> Claimed {
        Claimed { now: NOW, first_due, last_due: first_due, claims: Vec::new() }
    }

    /// Ends the last claim, which was not full.
    fn found(scan_start: &mut ScanStart, first_due: Option<DateTime<Utc>>) {
        scan_start.claimed(&claimed(first_due), false, Duration::ZERO);
    }

    fn full() -> ScanBounds {
        (None, DueRange::ALL)
    }

    fn from(due_from: DateTime<Utc>) -> ScanBounds {
        (Some(due_from), DueRange::ALL)
    }

    #[test]
    fn scan_starts_shortly_before_the_first_event_of_the_last_claim() {
        let now = Instant::now();
        let mut scan_start = ScanStart::new(POLL);
        assert_eq!(scan_start.of_claim(now), full(), "the first claim");
        found(&mut scan_start, None);
        assert_eq!(scan_start.of_claim(now), from(NOW - MARGIN));
        let due = NOW - Duration::from_secs(60);
        found(&mut scan_start, Some(due));
        assert_eq!(scan_start.of_claim(now), from(due - MARGIN));
    }

    #[test]
    fn one_scan_per_second_is_a_full_one() {
        let now = Instant::now();
        let mut scan_start = ScanStart::new(POLL);
        scan_start.of_claim(now);
        found(&mut scan_start, None);
        assert_eq!(scan_start.full_scan_at(), None, "no event was missed");
        let nearly = now + FULL_SCAN_EVERY_MAX - Duration::from_millis(1);
        assert_ne!(scan_start.of_claim(nearly), full());
        let at = now + FULL_SCAN_EVERY_MAX;
        assert_eq!(scan_start.full_scan_at(), Some(at));
        assert_eq!(scan_start.of_claim(at), full());
        assert_eq!(scan_start.full_scan_at(), None);
        found(&mut scan_start, None);
        assert_ne!(scan_start.of_claim(at), full());
    }

    // Under a transaction that stays open, each full scan takes longer than the last one.
    #[test]
    fn full_scans_take_at_most_a_tenth_of_the_time() {
        let now = Instant::now();
        let mut scan_start = ScanStart::new(POLL);
        scan_start.of_claim(now);
        let took = Duration::from_millis(900);
        scan_start.claimed(&claimed(None), false, took);
        let at = now + took * 10;
        assert_ne!(scan_start.of_claim(at - Duration::from_millis(1)), full());
        assert_eq!(scan_start.full_scan_at(), Some(at));
        assert_eq!(scan_start.of_claim(at), full());
    }

    #[test]
    fn full_scans_are_at_least_as_frequent_as_polls() {
        let (now, poll) = (Instant::now(), Duration::from_millis(200));
        let mut scan_start = ScanStart::new(poll);
        scan_start.of_claim(now);
        found(&mut scan_start, None);
        assert_eq!(scan_start.of_claim(now + poll), full());
    }

    #[test]
    fn failed_claim_is_followed_by_a_full_scan() {
        let now = Instant::now();
        let mut scan_start = ScanStart::new(POLL);
        scan_start.of_claim(now);
        found(&mut scan_start, None);
        scan_start.of_claim(now);
        scan_start.claim_failed(false);
        assert_eq!(scan_start.of_claim(now), full());
    }

    // A process that starts with millions of dead entries has no scan start yet.
    #[test]
    fn full_scan_that_times_out_does_not_delay_new_events() {
        let mut now = Instant::now();
        let mut scan_start = ScanStart::new(POLL);
        assert_eq!(scan_start.of_claim(now), full());
        scan_start.claim_failed(true);
        let fresh = (None, DueRange { oldest: Some(MARGIN), ..DueRange::ALL });
        assert_eq!(scan_start.of_claim(now), fresh);
        found(&mut scan_start, None);
        for _ in 0..5 {
            now = scan_start.full_scan_at().expect("the full scan goes on");
            let (due_from, range) = scan_start.of_claim(now);
            assert!(due_from.is_none() && range.oldest.is_some(), "{range:?}");
            scan_start.claim_failed(true);
            now += FULL_SCAN_EVERY_MAX;
            assert_eq!(scan_start.of_claim(now), from(NOW - MARGIN));
            found(&mut scan_start, None);
        }
    }

    #[test]
    fn quick_ranges_of_a_full_scan_follow_each_other() {
        let now = Instant::now();
        let mut scan_start = ScanStart::new(POLL);
        scan_start.of_claim(now);
        scan_start.claim_failed(true);
        let mut ranges = Vec::new();
        for _ in 0..50 {
            let later = now + FULL_SCAN_EVERY_MAX;
            let (due_from, range) = scan_start.of_claim(later);
            if due_from.is_none() {
                ranges.push(range);
            }
            found(&mut scan_start, None);
        }
        assert!(ranges.iter().any(|range| range.oldest.is_none()), "{ranges:?}");
    }

    // The events that the timed-out claim would have found are left to the full scan.
    #[test]
    fn bounded_claim_that_times_out_starts_at_new_events() {
        let now = Instant::now();
        let mut scan_start = ScanStart::new(POLL);
        scan_start.of_claim(now);
        let old = NOW - Duration::from_secs(3_600);
        found(&mut scan_start, Some(old));
        assert_eq!(scan_start.of_claim(now), from(old - MARGIN));
        scan_start.claim_failed(true);
        let (due_from, range) = scan_start.of_claim(now);
        assert_eq!((due_from, range.oldest), (None, Some(MARGIN)));
    }
}
