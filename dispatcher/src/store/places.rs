//! Places for database sessions: how many each pool of this process may open.
//!
//! A place is taken before a session is opened, and free again when the server has closed the
//! session. If the server or the role permits fewer sessions than configured, the pools shrink. A
//! client that comes first then gets the place of a pool with several sessions. Pure: every
//! function takes the time.

use std::time::Duration;

use tokio::time::Instant;

/// Pause after a refused session before the pool opens one more than it has.
const GROW_INTERVAL: Duration = Duration::from_secs(5);

/// The pools of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// Statements of the worker.
    Work,
    /// Statements of API requests.
    Accept,
    /// Readiness.
    Health,
}

/// A client without a session that the server refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claimant {
    Presence,
    Pool(Lane),
}

pub(super) const LANES: [Lane; 3] = [Lane::Work, Lane::Accept, Lane::Health];

#[derive(Debug)]
pub(super) struct Places([Count; LANES.len()]);

/// The places of one pool.
#[derive(Debug)]
struct Count {
    /// Configured size.
    size: usize,
    /// Places in use: sessions, and sessions that are being opened.
    open: usize,
    /// Number of sessions that the server permits, as far as known. At most `size`.
    limit: usize,
    /// While `limit` is below `size`: time at which one more is tried.
    grow_at: Instant,
    /// True if a session must be closed because a claimant needs its place.
    is_owed: bool,
}

impl Places {
    /// Takes the size of each pool, in the order of [`LANES`].
    pub(super) fn new(sizes: [usize; LANES.len()], now: Instant) -> Self {
        Self(sizes.map(|size| Count { size, open: 0, limit: size, grow_at: now, is_owed: false }))
    }

    pub(super) fn open(&self, lane: Lane) -> usize {
        self.0[lane as usize].open
    }

    /// Takes a place if a session may be opened now.
    pub(super) fn take(&mut self, lane: Lane, now: Instant) -> bool {
        let count = &mut self.0[lane as usize];
        // A pool without any session always tries to open one.
        if count.open >= count.limit.max(1) {
            if count.limit >= count.size || now < count.grow_at {
                return false;
            }
            count.limit = count.open + 1;
            count.grow_at = now + GROW_INTERVAL;
        }
        count.open += 1;
        true
    }

    /// A session has ended, or could not be opened.
    pub(super) fn free(&mut self, lane: Lane) {
        let count = &mut self.0[lane as usize];
        count.open -= 1;
        count.is_owed &= count.open > 0;
    }

    /// The server refused a session because it permits no more, so its place is free.
    pub(super) fn refused(&mut self, lane: Lane, now: Instant) {
        self.free(lane);
        let count = &mut self.0[lane as usize];
        count.limit = count.open;
        count.grow_at = now + GROW_INTERVAL;
    }

    /// Selects a pool that must close one session so that `claimant` can open its first one. Returns
    /// `None` if there is none, or if a session is being closed already.
    pub(super) fn make_room(&mut self, claimant: Claimant, now: Instant) -> Option<Lane> {
        if self.0.iter().any(|count| count.is_owed) {
            return None;
        }
        let others = LANES.into_iter().filter(|lane| claimant != Claimant::Pool(*lane));
        let largest = others.max_by_key(|lane| self.open(*lane));
        let several = largest.filter(|lane| self.open(*lane) > 1);
        // Presence and one session of the worker come before the last session of another pool.
        let comes_first = matches!(claimant, Claimant::Presence | Claimant::Pool(Lane::Work));
        let last = [Lane::Accept, Lane::Health];
        let last = last.into_iter().find(|lane| self.open(*lane) > 0);
        let lane = several.or(last.filter(|_| comes_first))?;
        let count = &mut self.0[lane as usize];
        count.is_owed = true;
        count.limit = count.open - 1;
        count.grow_at = now + GROW_INTERVAL;
        Some(lane)
    }

    /// Returns true if a session of the pool that is idle now must be closed.
    pub(super) fn must_close(&mut self, lane: Lane) -> bool {
        std::mem::take(&mut self.0[lane as usize].is_owed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Opens sessions of the pool until none is permitted. Returns the number of open ones.
    fn fill(places: &mut Places, lane: Lane, now: Instant) -> usize {
        while places.take(lane, now) {}
        places.open(lane)
    }

    /// A server that grants `granted` sessions to this pool.
    fn fill_up_to(places: &mut Places, lane: Lane, granted: usize, now: Instant) {
        while places.take(lane, now) {
            if places.open(lane) > granted {
                places.refused(lane, now);
            }
        }
    }

    #[test]
    fn pool_opens_no_more_sessions_than_its_size() {
        let now = Instant::now();
        let mut places = Places::new([4, 8, 1], now);
        assert_eq!(LANES.map(|lane| fill(&mut places, lane, now)), [4, 8, 1]);
        places.free(Lane::Accept);
        assert_eq!(fill(&mut places, Lane::Accept, now), 8);
    }

    #[test]
    fn refused_pool_tries_one_more_session_every_5_s() {
        let mut now = Instant::now();
        let mut places = Places::new([4, 8, 1], now);
        fill_up_to(&mut places, Lane::Accept, 3, now);
        assert_eq!(places.open(Lane::Accept), 3);
        for open in 4..=8 {
            assert!(!places.take(Lane::Accept, now + GROW_INTERVAL - Duration::from_millis(1)));
            now += GROW_INTERVAL;
            assert_eq!(fill(&mut places, Lane::Accept, now), open);
        }
    }

    #[test]
    fn refused_pool_replaces_an_ended_session_immediately() {
        let now = Instant::now();
        let mut places = Places::new([4, 8, 1], now);
        fill_up_to(&mut places, Lane::Accept, 3, now);
        places.free(Lane::Accept);
        assert!(places.take(Lane::Accept, now));
        assert!(!places.take(Lane::Accept, now));
    }

    #[test]
    fn pool_without_a_session_tries_to_open_one() {
        let now = Instant::now();
        let mut places = Places::new([4, 8, 1], now);
        assert!(places.take(Lane::Work, now));
        places.refused(Lane::Work, now);
        assert!(places.take(Lane::Work, now));
        assert!(!places.take(Lane::Work, now));
    }

    #[test]
    fn presence_gets_the_place_of_the_largest_pool() {
        let now = Instant::now();
        let mut places = Places::new([4, 8, 1], now);
        fill_up_to(&mut places, Lane::Work, 3, now);
        fill_up_to(&mut places, Lane::Accept, 5, now);
        assert_eq!(places.make_room(Claimant::Presence, now), Some(Lane::Accept));
        // The session is not closed yet, so the next refusal takes no further one.
        assert_eq!(places.make_room(Claimant::Presence, now), None);
        assert!(places.must_close(Lane::Accept));
        assert!(!places.must_close(Lane::Accept));
        places.free(Lane::Accept);
        assert!(!places.take(Lane::Accept, now), "the place is not taken back");
    }

    #[test]
    fn last_session_is_closed_only_for_presence_and_worker() {
        let now = Instant::now();
        let claimants = [
            (Claimant::Presence, Some(Lane::Accept)),
            (Claimant::Pool(Lane::Work), Some(Lane::Accept)),
            (Claimant::Pool(Lane::Health), None),
        ];
        for (claimant, expected) in claimants {
            let mut places = Places::new([4, 8, 1], now);
            assert!(places.take(Lane::Accept, now));
            assert_eq!(places.make_room(claimant, now), expected, "{claimant:?}");
        }
    }

    #[test]
    fn worker_keeps_its_last_session() {
        let now = Instant::now();
        let mut places = Places::new([4, 8, 1], now);
        assert!(places.take(Lane::Work, now));
        assert_eq!(places.make_room(Claimant::Presence, now), None);
    }
}
