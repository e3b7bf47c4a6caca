//! Divides a scan of all due events into ranges of due times that each take less than a second.
//!
//! While a transaction elsewhere is open, dead index entries stay. From a few millions on, a scan
//! of all of them runs into its timeout every time. A sweep goes from the newest due time to the
//! oldest. Normally it is one range. Pure: durations are inputs.

use std::time::Duration;

use crate::store::DueRange;

/// A range that took longer is halved, and a sweep that took longer in all is divided.
const SLOW: Duration = Duration::from_secs(1);

/// After a range that took at most this time, the next one is twice as wide and starts immediately.
pub(super) const QUICK: Duration = Duration::from_millis(50);

/// Scans that are not quick take at most one part in this many of the time.
pub(super) const SHARE: u32 = 10;

/// Width of the first range of a divided sweep.
const WIDTH_FIRST: Duration = Duration::from_secs(60);

const WIDTH_MIN: Duration = Duration::from_millis(1);

/// A range of this width has no lower bound: 365 days.
const WIDTH_OPEN: Duration = Duration::from_secs(365 * 24 * 60 * 60);

#[derive(Debug)]
pub(super) struct DueRanges {
    width: Duration,
    /// Time since the latest due time of the next range.
    newest: Duration,
    /// Duration of this sweep.
    took: Duration,
}

impl DueRanges {
    /// The first sweep is one range.
    pub(super) fn new() -> Self {
        Self { width: WIDTH_OPEN, newest: Duration::ZERO, took: Duration::ZERO }
    }

    pub(super) fn next(&self) -> DueRange {
        DueRange {
            newest: self.newest,
            oldest: (self.width < WIDTH_OPEN).then(|| self.newest + self.width),
        }
    }

    /// Returns true if the sweep consists of several ranges.
    pub(super) fn is_divided(&self) -> bool {
        self.next() != DueRange::ALL
    }

    /// The next range was scanned. Returns true if it was the last one of its sweep.
    pub(super) fn scanned(&mut self, took: Duration) -> bool {
        self.took = self.took.saturating_add(took);
        let oldest = self.next().oldest;
        if took > SLOW {
            self.halve();
        } else if took <= QUICK {
            self.width = (self.width * 2).min(WIDTH_OPEN);
        }
        let Some(oldest) = oldest else {
            let width = if self.took > SLOW { WIDTH_FIRST } else { WIDTH_OPEN };
            *self = Self { width, ..Self::new() };
            return true;
        };
        self.newest = oldest;
        false
    }

    /// The next range was not scanned, because that took too long.
    pub(super) fn halve(&mut self) {
        self.width = if self.is_divided() { (self.width / 2).max(WIDTH_MIN) } else { WIDTH_FIRST };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(range: DueRange) -> (u64, Option<u64>) {
        (range.newest.as_secs(), range.oldest.map(|age| age.as_secs()))
    }

    #[test]
    fn quick_sweep_is_one_range() {
        let mut ranges = DueRanges::new();
        for _ in 0..3 {
            assert_eq!(ranges.next(), DueRange::ALL);
            assert!(ranges.scanned(SLOW));
        }
    }

    #[test]
    fn range_that_fails_or_takes_over_1_s_is_halved() {
        let mut ranges = DueRanges::new();
        ranges.halve();
        assert_eq!(seconds(ranges.next()), (0, Some(60)));
        ranges.halve();
        assert_eq!(seconds(ranges.next()), (0, Some(30)));
        assert!(!ranges.scanned(SLOW * 2));
        assert_eq!(seconds(ranges.next()), (30, Some(45)));
        assert!(!ranges.scanned(SLOW));
        assert_eq!(seconds(ranges.next()), (45, Some(60)));
        for _ in 0..100 {
            ranges.halve();
        }
        assert_ne!(ranges.next().oldest, Some(ranges.next().newest), "not empty");
    }

    // Ranges must not leave a gap, and the last one has no lower bound.
    #[test]
    fn ranges_of_a_divided_sweep_cover_every_due_time() {
        let mut ranges = DueRanges::new();
        assert!(ranges.scanned(SLOW * 2));
        let mut covered = Duration::ZERO;
        let mut count = 0;
        loop {
            let range = ranges.next();
            assert_eq!(range.newest, covered);
            count += 1;
            let is_last = ranges.scanned(QUICK / 2);
            assert_eq!(is_last, range.oldest.is_none());
            let Some(oldest) = range.oldest else { break };
            covered = oldest;
        }
        assert!(count <= 25, "{count} ranges");
        assert_eq!(ranges.next(), DueRange::ALL, "every range was quick");
    }
}
