//! Sweeper: decides when to look for absent workers and whose leases to end.
//!
//! A worker whose lock is absent in two checks, 0.3 s apart, counts as exited. If a worker finds
//! itself absent, other workers see the same, so it must renew its presence. Pure: results and
//! times are inputs, and at most one call of each kind is open.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use crate::event::WorkerId;
use crate::store::{DueRange, RECLAIM_BATCH_MAX, ReclaimCause, StoreError};
use crate::worker::due_ranges::{DueRanges, QUICK, SHARE};

/// Interval of the checks for absent workers.
const CHECK_EVERY: Duration = Duration::from_millis(250);

/// A worker counts as exited if it is absent in two checks that are this far apart. Taking a lost
/// lock again is much faster.
const GONE_AFTER: Duration = Duration::from_millis(300);

/// Interval of the reclaims for an absent worker: a claim that was running when its client was
/// killed commits later.
const RECLAIM_AGAIN: Duration = Duration::from_secs(1);

/// Interval of the reclaims of expired leases. It is long, because this statement reads all due
/// events.
const EXPIRED_EVERY: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(in crate::worker) struct Sweeper {
    /// The worker of this sweeper. It never ends its own leases by presence.
    id: WorkerId,
    own_absent_since: Option<Instant>,
    lease: Duration,
    absent: BTreeMap<WorkerId, Absence>,
    check_at: Instant,
    is_checking: bool,
    expired_at: Instant,
    expired: DueRanges,
    causes: VecDeque<ReclaimCause>,
    /// Expired leases and absent workers take turns.
    was_expired: bool,
    is_reclaiming: bool,
    to_forget: BTreeSet<WorkerId>,
}

#[derive(Debug)]
struct Absence {
    since: Instant,
    reclaim_at: Instant,
    ranges: DueRanges,
}

impl Sweeper {
    /// The first check and the first reclaim of expired leases are due immediately.
    pub(in crate::worker) fn new(id: WorkerId, lease: Duration, now: Instant) -> Self {
        Self {
            id,
            own_absent_since: None,
            lease,
            absent: BTreeMap::new(),
            check_at: now,
            is_checking: false,
            expired_at: now,
            expired: DueRanges::new(),
            causes: VecDeque::new(),
            was_expired: false,
            is_reclaiming: false,
            to_forget: BTreeSet::new(),
        }
    }

    /// Returns the time of the next check, or `None` while one is open.
    pub(in crate::worker) fn at(&self) -> Option<Instant> {
        (!self.is_checking).then_some(self.check_at)
    }

    /// Returns true if a check starts now.
    pub(in crate::worker) fn start_check(&mut self, now: Instant) -> bool {
        if self.is_checking || now < self.check_at {
            return false;
        }
        self.check_at = now + CHECK_EVERY;
        self.is_checking = true;
        true
    }

    /// Takes the result of a check. After a failed check, no worker counts as absent. Returns true
    /// if other workers count this one as exited, so that it must renew its presence.
    pub(in crate::worker) fn checked(
        &mut self,
        absent: Option<Vec<WorkerId>>,
        now: Instant,
    ) -> bool {
        self.is_checking = false;
        let mut absent: BTreeSet<_> = absent.into_iter().flatten().collect();
        let is_own_absent = absent.remove(&self.id);
        self.absent.retain(|worker, _| absent.contains(worker));
        for worker in absent {
            let absence = self.absent.entry(worker).or_insert_with(|| {
                self.check_at = self.check_at.min(now + GONE_AFTER);
                Absence { since: now, reclaim_at: now + GONE_AFTER, ranges: DueRanges::new() }
            });
            if now < absence.reclaim_at {
                // The deciding check runs as soon as it can decide, not a whole interval later.
                self.check_at = self.check_at.min(absence.reclaim_at.max(now + GONE_AFTER / 6));
                continue;
            }
            absence.reclaim_at = now + RECLAIM_AGAIN;
            let cause = ReclaimCause::Gone(worker);
            if !self.causes.contains(&cause) {
                self.causes.push_back(cause);
            }
            if now - absence.since >= self.lease + GONE_AFTER {
                self.to_forget.insert(worker);
            }
        }
        self.own_checked(is_own_absent, now)
    }

    /// Two checks decide, as for other workers: one alone may fall between the loss of the lock and
    /// the next hold. After the decision, the count starts again.
    fn own_checked(&mut self, is_absent: bool, now: Instant) -> bool {
        let since = self.own_absent_since.filter(|_| is_absent);
        let is_gone = since.is_some_and(|since| now - since >= GONE_AFTER);
        self.own_absent_since = (is_absent && !is_gone).then(|| since.unwrap_or(now));
        is_gone
    }

    /// Returns the cause and the due times of the reclaim that starts now. `is_steady` is false
    /// shortly after an outage of the database.
    pub(in crate::worker) fn next_reclaim(
        &mut self,
        now: Instant,
        is_steady: bool,
    ) -> Option<(ReclaimCause, DueRange)> {
        if self.is_reclaiming {
            return None;
        }
        let waits = self.was_expired && !self.causes.is_empty();
        self.was_expired = is_steady && now >= self.expired_at && !waits;
        let cause = if self.was_expired {
            self.expired_at = now + EXPIRED_EVERY;
            ReclaimCause::Expired
        } else {
            self.causes.pop_front()?
        };
        self.is_reclaiming = true;
        let range = self.ranges(cause).map_or(DueRange::ALL, |ranges| ranges.next());
        Some((cause, range))
    }

    fn ranges(&mut self, cause: ReclaimCause) -> Option<&mut DueRanges> {
        match cause {
            ReclaimCause::Expired => Some(&mut self.expired),
            ReclaimCause::Gone(worker) => Some(&mut self.absent.get_mut(&worker)?.ranges),
        }
    }

    /// A reclaim has ended a number of leases or failed. After a full batch or a failure, the same
    /// one runs again. If it scanned only a part of the due times, the next part follows.
    pub(in crate::worker) fn reclaimed(
        &mut self,
        cause: ReclaimCause,
        swept: Result<usize, &StoreError>,
        took: Duration,
        now: Instant,
    ) {
        self.is_reclaiming = false;
        // An absent worker may have returned.
        let Some(ranges) = self.ranges(cause) else { return };
        let is_done = match swept {
            Ok(count) if count < RECLAIM_BATCH_MAX => ranges.scanned(took),
            Err(error) if error.is_timeout() => {
                ranges.halve();
                false
            }
            _ => false,
        };
        let is_slow = swept.is_ok() && took > QUICK;
        let pause = if is_slow { took * (SHARE - 1) } else { Duration::ZERO };
        match cause {
            ReclaimCause::Expired if is_done => self.expired_at = self.expired_at.max(now + pause),
            ReclaimCause::Expired => self.expired_at = now + pause,
            ReclaimCause::Gone(_) if is_done => {}
            ReclaimCause::Gone(_) => self.causes.push_front(cause),
        }
    }

    /// Returns a worker whose registration is deleted now.
    pub(in crate::worker) fn next_to_forget(&mut self) -> Option<WorkerId> {
        self.to_forget.pop_first()
    }

    /// The registration of a worker was deleted. If that failed, a later check repeats it.
    pub(in crate::worker) fn forgotten(&mut self, worker: WorkerId, is_deleted: bool) {
        if is_deleted {
            self.absent.remove(&worker);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(30);
    const OWN: WorkerId = WorkerId(1);
    const OTHER: WorkerId = WorkerId(2);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Runs each check that is due before `until`. Returns the causes, each with its time in
    /// milliseconds.
    fn run(
        sweeper: &mut Sweeper,
        start: Instant,
        until: Duration,
        absent: impl Fn(Duration) -> Vec<WorkerId>,
    ) -> Vec<(u128, ReclaimCause)> {
        let mut causes = Vec::new();
        let mut now = start;
        while now < start + until {
            if sweeper.start_check(now) {
                sweeper.checked(Some(absent(now - start)), now);
            }
            while let Some((cause, _)) = sweeper.next_reclaim(now, false) {
                causes.push(((now - start).as_millis(), cause));
                sweeper.reclaimed(cause, Ok(0), Duration::ZERO, now);
            }
            now = sweeper.at().expect("no check is open").max(now + ms(1));
        }
        causes
    }

    #[test]
    fn absent_worker_is_reclaimed_within_0_6_s() {
        let start = Instant::now();
        let mut sweeper = Sweeper::new(OWN, LEASE, start);
        let exited_at = ms(10);
        let causes = run(&mut sweeper, start, ms(1_000), |at| {
            if at >= exited_at { vec![OTHER] } else { Vec::new() }
        });
        assert_eq!(causes.first(), Some(&(550, ReclaimCause::Gone(OTHER))));
    }

    #[test]
    fn worker_absent_in_one_check_is_not_reclaimed() {
        let start = Instant::now();
        let mut sweeper = Sweeper::new(OWN, LEASE, start);
        let causes = run(&mut sweeper, start, ms(2_000), |at| {
            if at >= ms(250) && at < ms(500) { vec![OTHER] } else { Vec::new() }
        });
        assert_eq!(causes, []);
    }

    // A timer in the past that nothing moves would make the loop of the worker spin.
    #[test]
    fn open_check_sets_no_timer() {
        let start = Instant::now();
        let mut sweeper = Sweeper::new(OWN, LEASE, start);
        assert!(sweeper.start_check(start));
        assert_eq!(sweeper.at(), None);
        sweeper.checked(Some(Vec::new()), start + ms(5_000));
        assert_eq!(sweeper.at(), Some(start + CHECK_EVERY));
    }

    #[test]
    fn worker_does_not_reclaim_its_own_leases() {
        let start = Instant::now();
        let mut sweeper = Sweeper::new(OWN, LEASE, start);
        let causes = run(&mut sweeper, start, ms(2_000), |_| vec![OWN]);
        assert_eq!(causes, []);
    }

    // Other workers would reclaim everything that it claims. One check alone may fall between the
    // loss and the next hold.
    #[test]
    fn worker_absent_to_itself_in_two_checks_renews_its_presence() {
        let start = Instant::now();
        let mut sweeper = Sweeper::new(OWN, LEASE, start);
        let checks = [
            (0, true, false),
            (250, false, false),
            (500, true, false),
            (750, true, false),
            (1_000, true, true),
            (1_250, true, false),
            (1_500, true, false),
            (1_750, true, true),
        ];
        for (at, is_absent, renews) in checks {
            let absent = vec![OWN; usize::from(is_absent)];
            assert_eq!(sweeper.checked(Some(absent), start + ms(at)), renews, "at {at} ms");
        }
    }

    #[test]
    fn absent_worker_is_forgotten_after_a_lease_time() {
        let start = Instant::now();
        let mut sweeper = Sweeper::new(OWN, LEASE, start);
        let causes = run(&mut sweeper, start, LEASE + ms(2_000), |_| vec![OTHER]);
        assert!(causes.len() >= 25, "{}", causes.len());
        assert_eq!(sweeper.next_to_forget(), Some(OTHER));
    }

    #[test]
    fn expired_leases_wait_for_a_steady_database_and_5_s() {
        let start = Instant::now();
        let mut sweeper = Sweeper::new(OWN, LEASE, start);
        let expired = Some((ReclaimCause::Expired, DueRange::ALL));
        let end = |sweeper: &mut Sweeper, count| {
            sweeper.reclaimed(ReclaimCause::Expired, Ok(count), Duration::ZERO, start);
        };
        assert_eq!(sweeper.next_reclaim(start, false), None);
        assert_eq!(sweeper.next_reclaim(start, true), expired);
        end(&mut sweeper, RECLAIM_BATCH_MAX);
        assert_eq!(sweeper.next_reclaim(start, true), expired, "a full batch");
        end(&mut sweeper, 3);
        assert_eq!(sweeper.next_reclaim(start + ms(4_900), true), None);
        assert_eq!(sweeper.next_reclaim(start + EXPIRED_EVERY, true), expired);
    }

    // A transaction that stays open makes each sweep slower than the one before.
    #[test]
    fn sweeps_of_expired_leases_take_at_most_a_tenth_of_the_time() {
        let start = Instant::now();
        let mut sweeper = Sweeper::new(OWN, LEASE, start);
        let expired = Some((ReclaimCause::Expired, DueRange::ALL));
        assert_eq!(sweeper.next_reclaim(start, true), expired);
        let took = ms(900);
        sweeper.reclaimed(ReclaimCause::Expired, Ok(0), took, start + took);
        assert_eq!(sweeper.next_reclaim(start + took * 10 - ms(1), true), None);
        assert_eq!(sweeper.next_reclaim(start + took * 10, true), expired);
    }

    // Dead entries of millions of events make one scan of all too slow, every time.
    #[test]
    fn reclaim_that_times_out_is_repeated_in_ranges() {
        let mut now = Instant::now();
        let mut sweeper = Sweeper::new(OWN, LEASE, now);
        sweeper
            .absent
            .insert(OTHER, Absence { since: now, reclaim_at: now, ranges: DueRanges::new() });
        sweeper.causes.push_back(ReclaimCause::Gone(OTHER));
        let timed_out = StoreError::Refused {
            operation: "testing",
            sqlstate: "57014".into(),
            reason: "canceling statement due to statement timeout".into(),
        };
        let mut is_complete = [false; 2];
        for _ in 0..120 {
            let Some((cause, range)) = sweeper.next_reclaim(now, true) else {
                break;
            };
            let is_all = range == DueRange::ALL;
            let swept = if is_all { Err(&timed_out) } else { Ok(0) };
            let of = usize::from(cause == ReclaimCause::Expired);
            is_complete[of] |= !is_all && range.oldest.is_none();
            sweeper.reclaimed(cause, swept, Duration::ZERO, now);
            now += ms(1);
        }
        assert_eq!(is_complete, [true, true]);
    }
}
