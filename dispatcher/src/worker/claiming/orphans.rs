//! Decides when to look for orphaned claims: leases of this worker whose claim lost its reply.
//!
//! The statement of a lost claim may still run in the server and commit later. So the search is
//! repeated until it has ended, and for one lease time, because a network can deliver a statement
//! late. No claim is open during a search, and the tokens of open batches of the API are known. So
//! each lease without a known token is an orphan. Pure: results and times are inputs.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::Instant;

/// Interval of the searches after a lost reply.
const SEARCH_EVERY: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(in crate::worker) struct Orphans {
    lease: Duration,
    search: Option<Search>,
    is_searching: bool,
    /// A claim was lost after the open search began, so its result says nothing about that claim.
    is_outdated: bool,
}

#[derive(Debug)]
struct Search {
    /// Lower bound of the due times of the lost claims.
    due_from: Option<DateTime<Utc>>,
    at: Instant,
    /// Latest end, set by the first search that the database answers.
    until: Option<Instant>,
    /// A lost claim may still commit, as far as the last search found.
    is_lost_running: bool,
}

impl Orphans {
    pub(in crate::worker) fn new(lease: Duration) -> Self {
        Self { lease, search: None, is_searching: false, is_outdated: false }
    }

    /// The reply to a claim was lost. `due_from` is the lower bound of its due times.
    pub(in crate::worker) fn lost(&mut self, due_from: Option<DateTime<Utc>>, now: Instant) {
        self.is_outdated = self.is_searching;
        let earlier = self.search.as_ref();
        self.search = Some(Search {
            due_from: earlier.map_or(due_from, |search| search.due_from.min(due_from)),
            at: now,
            until: None,
            is_lost_running: true,
        });
    }

    /// Returns the time of the next search, or `None` while one is open.
    pub(in crate::worker) fn at(&self) -> Option<Instant> {
        let search = self.search.as_ref().filter(|_| !self.is_searching);
        search.map(|search| search.at)
    }

    /// Returns true if no claim may start, because a search is open or due.
    pub(in crate::worker) fn blocks_claims(&self, now: Instant) -> bool {
        self.is_searching || self.at().is_some_and(|at| at <= now)
    }

    /// Returns true if no search has been answered since the lost claims ended. A worker that exits
    /// before leaves their leases to the expiry.
    pub(in crate::worker) fn is_unanswered(&self) -> bool {
        self.search.as_ref().is_some_and(|search| search.is_lost_running)
    }

    /// Returns the lower bound of the due times for the search that starts now.
    pub(in crate::worker) fn start_search(
        &mut self,
        now: Instant,
    ) -> Option<Option<DateTime<Utc>>> {
        self.at().filter(|at| *at <= now)?;
        self.is_searching = true;
        self.search.as_ref().map(|search| search.due_from)
    }

    /// A search has ended. `is_lost_running` is true if a lost claim may still commit, and `None`
    /// if the search failed.
    pub(in crate::worker) fn searched(&mut self, is_lost_running: Option<bool>, now: Instant) {
        self.is_searching = false;
        let is_outdated = std::mem::take(&mut self.is_outdated);
        let Some(search) = self.search.as_mut().filter(|_| !is_outdated) else { return };
        // Also after a failure: a search that takes too long must not stop the claims.
        search.at = now + SEARCH_EVERY;
        if let Some(is_lost_running) = is_lost_running {
            search.is_lost_running = is_lost_running;
            let until = *search.until.get_or_insert(now + self.lease);
            if now >= until && !is_lost_running {
                self.search = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(30);
    const FROM: Option<DateTime<Utc>> = Some(DateTime::UNIX_EPOCH);

    #[test]
    fn search_starts_immediately_and_blocks_claims() {
        let now = Instant::now();
        let mut orphans = Orphans::new(LEASE);
        assert!(!orphans.blocks_claims(now));
        assert_eq!(orphans.start_search(now), None);
        orphans.lost(FROM, now);
        assert!(orphans.blocks_claims(now) && orphans.is_unanswered());
        assert_eq!(orphans.start_search(now), Some(FROM));
        assert_eq!((orphans.at(), orphans.start_search(now)), (None, None));
        assert!(orphans.blocks_claims(now));
        orphans.searched(None, now);
        assert!(!orphans.blocks_claims(now) && orphans.is_unanswered(), "it failed");
        let now = now + SEARCH_EVERY;
        assert_eq!(orphans.start_search(now), Some(FROM));
        orphans.searched(Some(false), now);
        assert!(!orphans.blocks_claims(now) && !orphans.is_unanswered());
        assert_eq!(orphans.at(), Some(now + SEARCH_EVERY));
    }

    // Only claims cannot be lost during a search. Batches of the API can.
    #[test]
    fn search_that_began_before_the_loss_is_repeated_immediately() {
        let now = Instant::now();
        let mut orphans = Orphans::new(LEASE);
        orphans.lost(FROM, now);
        orphans.start_search(now);
        orphans.lost(FROM, now);
        orphans.searched(Some(false), now);
        assert!(orphans.is_unanswered());
        assert_eq!(orphans.start_search(now), Some(FROM));
        orphans.searched(Some(false), now);
        assert!(!orphans.is_unanswered());
    }

    // The worker does not exit while this is unanswered.
    #[test]
    fn search_is_unanswered_while_the_lost_claim_runs() {
        let now = Instant::now();
        let mut orphans = Orphans::new(LEASE);
        orphans.lost(FROM, now);
        orphans.start_search(now);
        orphans.searched(Some(true), now);
        assert!(orphans.is_unanswered());
        orphans.start_search(now + SEARCH_EVERY);
        orphans.searched(Some(false), now + SEARCH_EVERY);
        assert!(!orphans.is_unanswered());
    }

    /// Searches until `orphans` has no further search, at most three lease times.
    fn duration(orphans: &mut Orphans, start: Instant, runs_for: Duration) -> Duration {
        let mut now = start;
        while let Some(at) = orphans.at().filter(|at| *at < start + LEASE * 3) {
            now = at;
            orphans.start_search(now);
            orphans.searched(Some(now < start + runs_for), now);
        }
        now - start
    }

    // The server commits the lost claim when it has ended.
    #[test]
    fn search_is_repeated_while_the_lost_claim_runs() {
        let now = Instant::now();
        let mut orphans = Orphans::new(LEASE);
        orphans.lost(FROM, now);
        assert_eq!(duration(&mut orphans, now, LEASE * 2), LEASE * 2);
        orphans.lost(FROM, now);
        assert_eq!(duration(&mut orphans, now, Duration::ZERO), LEASE);
    }

    #[test]
    fn search_covers_the_due_times_of_every_lost_claim() {
        let now = Instant::now();
        let later = FROM.map(|from| from + LEASE);
        let mut orphans = Orphans::new(LEASE);
        orphans.lost(later, now);
        orphans.lost(FROM, now);
        assert_eq!(orphans.start_search(now), Some(FROM));
        orphans.searched(None, now);
        orphans.lost(None, now);
        orphans.lost(later, now);
        assert_eq!(orphans.start_search(now), Some(None));
    }
}
