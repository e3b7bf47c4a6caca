//! Whose leases are to be ended: those of holders seen absent twice, and those that ran out. A worker that sees itself so
//! is not gone, but others take it for gone.
//!
//! Pure: what was seen and when comes in; what to do comes out, one call of each kind at a time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use crate::event::WorkerId;
use crate::store::{RECLAIM_BATCH_MAX, ReclaimCause};

/// How often to look for holders whose lock is absent.
const LOOK: Duration = Duration::from_millis(250);

/// A holder is gone when two looks so far apart both miss its lock: taking it again after a cut is much faster.
const GONE_AFTER: Duration = Duration::from_millis(300);

/// A gone holder is swept again so often: a claim that was running when its client was killed commits later.
const SWEEP_AGAIN: Duration = Duration::from_secs(1);

/// How often to look for leases that ran out; that look walks the due events, so it is a rare one.
const EXPIRED_LOOK: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Sweeper {
    /// Whose sweeper this is: it never ends its own leases.
    own: WorkerId,
    /// Since when it misses itself.
    own_absent_since: Option<Instant>,
    own_is_gone: bool,
    lease: Duration,
    absent: BTreeMap<WorkerId, Absence>,
    look_at: Instant,
    looking: bool,
    expired_at: Instant,
    causes: VecDeque<ReclaimCause>,
    reclaiming: bool,
    to_forget: BTreeSet<WorkerId>,
}

#[derive(Debug)]
struct Absence {
    since: Instant,
    sweep_at: Instant,
}

impl Sweeper {
    /// The first looks of both kinds are at once.
    pub(super) fn new(own: WorkerId, lease: Duration, now: Instant) -> Self {
        Self {
            own,
            own_absent_since: None,
            own_is_gone: false,
            lease,
            absent: BTreeMap::new(),
            look_at: now,
            looking: false,
            expired_at: now,
            causes: VecDeque::new(),
            reclaiming: false,
            to_forget: BTreeSet::new(),
        }
    }

    /// When the worker must wake for the sake of a look; never while one is under way.
    pub(super) fn at(&self) -> Option<Instant> {
        (!self.looking).then_some(self.look_at)
    }

    /// Whether to look for absent holders now.
    pub(super) fn look(&mut self, now: Instant) -> bool {
        if self.looking || now < self.look_at {
            return false;
        }
        self.look_at = now + LOOK;
        self.looking = true;
        true
    }

    /// A look's answer; without one, nobody is known to be absent any more.
    pub(super) fn seen(&mut self, absent: Option<Vec<WorkerId>>, now: Instant) {
        self.looking = false;
        let mut seen: BTreeSet<_> = absent.into_iter().flatten().collect();
        let own_is_absent = seen.remove(&self.own);
        self.own_seen(own_is_absent, now);
        self.absent.retain(|holder, _| seen.contains(holder));
        for holder in seen {
            let absence = self.absent.entry(holder).or_insert_with(|| {
                self.look_at = self.look_at.min(now + GONE_AFTER);
                Absence {
                    since: now,
                    sweep_at: now + GONE_AFTER,
                }
            });
            if now < absence.sweep_at {
                // The look that decides is made when it can decide, not a whole interval later.
                self.look_at = self.look_at.min(absence.sweep_at.max(now + GONE_AFTER / 6));
                continue;
            }
            absence.sweep_at = now + SWEEP_AGAIN;
            self.causes.push_back(ReclaimCause::Gone(holder));
            if now - absence.since >= self.lease + GONE_AFTER {
                self.to_forget.insert(holder);
            }
        }
    }

    /// Whether the last look found that others must take this worker for gone.
    pub(super) fn is_own_gone(&self) -> bool {
        self.own_is_gone
    }

    /// Two looks decide, as they do for others: one may fall between a cut and the next hold. Then it begins anew.
    fn own_seen(&mut self, is_absent: bool, now: Instant) {
        let since = self.own_absent_since.filter(|_| is_absent);
        self.own_is_gone = since.is_some_and(|since| now - since >= GONE_AFTER);
        self.own_absent_since = (is_absent && !self.own_is_gone).then(|| since.unwrap_or(now));
    }

    /// Whose leases to end now. `steady` says that the database was not away lately.
    pub(super) fn reclaim(&mut self, now: Instant, steady: bool) -> Option<ReclaimCause> {
        if self.reclaiming {
            return None;
        }
        let expired = (steady && now >= self.expired_at).then(|| {
            self.expired_at = now + EXPIRED_LOOK;
            ReclaimCause::Expired
        });
        let cause = expired.or_else(|| self.causes.pop_front())?;
        self.reclaiming = true;
        Some(cause)
    }

    /// A reclaim ended so many leases; a full batch, or a failure, has more to come.
    pub(super) fn reclaimed(&mut self, cause: ReclaimCause, ended: Option<usize>, now: Instant) {
        self.reclaiming = false;
        let more = ended.is_none_or(|ended| ended >= RECLAIM_BATCH_MAX);
        match cause {
            ReclaimCause::Expired if more => self.expired_at = now,
            ReclaimCause::Gone(holder) if more && self.absent.contains_key(&holder) => {
                self.causes.push_front(cause);
            }
            _ => {}
        }
    }

    /// A holder to be forgotten now.
    pub(super) fn forget(&mut self) -> Option<WorkerId> {
        self.to_forget.pop_first()
    }

    /// A holder was forgotten, or will be in a later look.
    pub(super) fn forgotten(&mut self, holder: WorkerId, done: bool) {
        if done {
            self.absent.remove(&holder);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(30);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Looks every time it is due until `until`, and collects when who was found gone.
    fn watch(
        sweeper: &mut Sweeper,
        start: Instant,
        until: Duration,
        absent: impl Fn(Duration) -> Vec<WorkerId>,
    ) -> Vec<(u128, ReclaimCause)> {
        let mut found = Vec::new();
        let mut now = start;
        while now < start + until {
            if sweeper.look(now) {
                sweeper.seen(Some(absent(now - start)), now);
            }
            while let Some(cause) = sweeper.reclaim(now, false) {
                found.push(((now - start).as_millis(), cause));
                sweeper.reclaimed(cause, Some(0), now);
            }
            now = sweeper.at().expect("no look is under way").max(now + ms(1));
        }
        found
    }

    #[test]
    fn a_holder_absent_in_two_looks_is_gone_within_six_tenths_of_a_second() {
        let start = Instant::now();
        let mut sweeper = Sweeper::new(WorkerId(1), LEASE, start);
        let died = ms(10);
        let found = watch(&mut sweeper, start, ms(1_000), |at| {
            if at >= died {
                vec![WorkerId(2)]
            } else {
                Vec::new()
            }
        });
        assert_eq!(found.first(), Some(&(550, ReclaimCause::Gone(WorkerId(2)))));
    }

    #[test]
    fn a_lock_that_is_back_at_the_second_look_means_nothing() {
        let start = Instant::now();
        let mut sweeper = Sweeper::new(WorkerId(1), LEASE, start);
        let found = watch(&mut sweeper, start, ms(2_000), |at| {
            if at >= ms(250) && at < ms(500) {
                vec![WorkerId(2)]
            } else {
                Vec::new()
            }
        });
        assert_eq!(found, []);
    }

    // A timer in the past that nothing moves would keep the worker from everything else.
    #[test]
    fn a_look_that_is_under_way_sets_no_timer() {
        let start = Instant::now();
        let mut sweeper = Sweeper::new(WorkerId(1), LEASE, start);
        assert!(sweeper.look(start));
        assert_eq!(sweeper.at(), None);
        sweeper.seen(Some(Vec::new()), start + ms(5_000));
        assert_eq!(sweeper.at(), Some(start + LOOK));
    }

    #[test]
    fn nobody_ends_its_own_leases() {
        let start = Instant::now();
        let mut sweeper = Sweeper::new(WorkerId(1), LEASE, start);
        assert_eq!(
            watch(&mut sweeper, start, ms(2_000), |_| vec![WorkerId(1)]),
            []
        );
    }

    // Others would take all that it claims from it; but one look may fall between a cut and the next hold.
    #[test]
    fn a_worker_that_misses_itself_in_two_looks_is_gone_to_others_and_begins_anew() {
        let start = Instant::now();
        let mut sweeper = Sweeper::new(WorkerId(1), LEASE, start);
        let looks = [
            (0, true, false),
            (250, false, false),
            (500, true, false),
            (750, true, false),
            (1_000, true, true),
            (1_250, true, false),
            (1_500, true, false),
            (1_750, true, true),
        ];
        for (at, is_absent, is_gone) in looks {
            sweeper.seen(
                Some(vec![WorkerId(1); usize::from(is_absent)]),
                start + ms(at),
            );
            assert_eq!(sweeper.is_own_gone(), is_gone, "at {at} ms");
        }
    }

    #[test]
    fn a_gone_holder_is_swept_for_a_whole_lease_and_then_forgotten() {
        let start = Instant::now();
        let mut sweeper = Sweeper::new(WorkerId(1), LEASE, start);
        let found = watch(&mut sweeper, start, LEASE + ms(2_000), |_| {
            vec![WorkerId(2)]
        });
        assert!(found.len() >= 25, "{}", found.len());
        assert_eq!(sweeper.forget(), Some(WorkerId(2)));
    }

    #[test]
    fn expiry_is_looked_for_at_once_then_rarely_and_never_just_after_an_outage() {
        let start = Instant::now();
        let mut sweeper = Sweeper::new(WorkerId(1), LEASE, start);
        assert_eq!(sweeper.reclaim(start, false), None);
        assert_eq!(sweeper.reclaim(start, true), Some(ReclaimCause::Expired));
        sweeper.reclaimed(ReclaimCause::Expired, Some(RECLAIM_BATCH_MAX), start);
        assert_eq!(
            sweeper.reclaim(start, true),
            Some(ReclaimCause::Expired),
            "a full batch has more to come"
        );
        sweeper.reclaimed(ReclaimCause::Expired, Some(3), start);
        assert_eq!(sweeper.reclaim(start + ms(4_900), true), None);
        assert_eq!(
            sweeper.reclaim(start + EXPIRED_LOOK, true),
            Some(ReclaimCause::Expired)
        );
    }
}
