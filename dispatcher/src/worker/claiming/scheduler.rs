//! Claim scheduler: decides when to claim and how many events.
//!
//! Inputs are due times, wake-ups, free permits, refused events and the duration of claims. Under a
//! backlog, a claim waits until its batch is worth a commit. A claim that was too slow is followed
//! by smaller ones. Pure: times are inputs.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::Instant;

use super::backlog::{Backlog, ClaimResult, Place};
use super::scan_start::ScanStart;
use crate::store::{CLAIM_BATCH_MAX, CLAIM_BYTES_MAX, ClaimLimit, Claimed, DueRange, StoreError};

/// Minimum number of free permits for a claim under a backlog. Each claim costs one commit.
const BACKLOG_PERMITS_MIN: usize = 64;

/// Maximum wait for that number of permits.
const BACKLOG_WAIT_MAX: Duration = Duration::from_millis(5);

/// Maximum number of halvings of a claim. After nine, a claim of 500 events takes one event.
const HALVINGS_MAX: u32 = 9;

/// A full claim that took at most this time, and at most a quarter of `claim_max`, undoes one
/// halving.
const QUICK: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(in crate::worker) struct Scheduler {
    poll_interval: Duration,
    /// Maximum duration of a claim. After a longer one, the rest of the lease is too short for an
    /// attempt.
    claim_max: Duration,
    backlog_permits_min: usize,
    /// An event may be due.
    is_requested: bool,
    /// Events that the open claim may return, 0 if none is open.
    claiming: usize,
    /// Claims are halved this many times.
    halvings: u32,
    scan_start: ScanStart,
    backlog: Backlog,
    /// The open or last claim.
    place: Place,
    /// No claim starts before this time.
    resting_until: Option<Instant>,
    /// Start of the wait for more permits under a backlog.
    waiting_since: Option<Instant>,
    /// `now()` of the last claim that was not full, until the next due time is read.
    next_due_after: Option<DateTime<Utc>>,
    is_reading_next_due: bool,
    /// Latest time of the next claim.
    at: Instant,
    /// Time of the next claim at the front of a backlog.
    front_at: Option<Instant>,
}

impl Scheduler {
    pub(in crate::worker) fn new(
        poll_interval: Duration,
        in_flight_max: usize,
        claim_max: Duration,
        now: Instant,
    ) -> Self {
        let backlog_permits_min = BACKLOG_PERMITS_MIN.min(in_flight_max.div_ceil(4));
        Self {
            poll_interval,
            claim_max,
            backlog_permits_min,
            is_requested: true,
            claiming: 0,
            halvings: 0,
            scan_start: ScanStart::new(poll_interval),
            backlog: Backlog::new(backlog_permits_min),
            place: Place::Front { events: CLAIM_BATCH_MAX },
            resting_until: None,
            waiting_since: None,
            next_due_after: None,
            is_reading_next_due: false,
            at: now + poll_interval,
            front_at: None,
        }
    }

    /// Requests a claim, because an event may be due.
    pub(in crate::worker) fn request(&mut self) {
        self.is_requested = true;
    }

    /// Returns the number of events that the open claim may return, 0 if none is open.
    pub(in crate::worker) fn claiming(&self) -> usize {
        self.claiming
    }

    /// Returns true if more events are due than a claim takes.
    pub(in crate::worker) fn is_deep(&self) -> bool {
        self.backlog.is_deep()
    }

    /// Returns true if this machine could not send events a moment ago.
    pub(in crate::worker) fn is_resting(&self, now: Instant) -> bool {
        self.resting_until.is_some_and(|until| now < until)
    }

    /// Returns the time at which the worker must wake up for the next claim.
    pub(in crate::worker) fn at(&self, now: Instant) -> Instant {
        if self.claiming > 0 {
            return self.at;
        }
        let rest = self.resting_until.filter(|until| *until > now && self.is_requested);
        let wait = self.waiting_since.map(|since| (since + BACKLOG_WAIT_MAX).max(now));
        let times = [Some(self.at), rest.or(wait), self.front_at];
        times.into_iter().flatten().min().unwrap_or(self.at)
    }

    pub(in crate::worker) fn on_timer(&mut self, now: Instant) {
        if now >= self.at {
            self.is_requested = true;
            self.at = now + self.poll_interval;
        }
    }

    /// Stops claiming until a time, because this machine could not send the claimed events.
    pub(in crate::worker) fn rest_until(&mut self, until: Instant) {
        self.resting_until = Some(until);
    }

    /// An event is due after a delay.
    pub(in crate::worker) fn due_in(&mut self, delay: Duration, now: Instant) {
        self.at = self.at.min(now + delay);
    }

    /// Returns the limits of the claim that starts now, or `None` if none starts. `held` permits
    /// are in use.
    pub(in crate::worker) fn next_claim(
        &mut self,
        free: usize,
        held: usize,
        now: Instant,
    ) -> Option<ClaimLimit> {
        self.front_at = None;
        let waiting_since = self.waiting_since.take();
        if self.claiming > 0 || free == 0 || self.is_resting(now) {
            return None;
        }
        let Some(place) = self.backlog.next(self.is_requested, now) else {
            self.front_at = self.backlog.front_at();
            return None;
        };
        let (Place::Front { events } | Place::Beyond { events, .. }) = place;
        if self.backlog.is_deep() && held > 0 && free < self.backlog_permits_min.min(events) {
            let since = waiting_since.unwrap_or(now);
            if now - since < BACKLOG_WAIT_MAX {
                self.waiting_since = Some(since);
                return None;
            }
        }
        self.backlog.start(place);
        self.place = place;
        self.is_requested = false;
        let (due_from, range) = match place {
            Place::Front { .. } => {
                let bounds = self.scan_start.of_claim(now);
                self.request_full_scan();
                bounds
            }
            Place::Beyond { from, .. } => (Some(from), DueRange::ALL),
        };
        self.claiming = free.min(events).min((CLAIM_BATCH_MAX >> self.halvings).max(1));
        let bytes = CLAIM_BYTES_MAX >> self.halvings;
        Some(ClaimLimit { events: self.claiming, bytes, due_from, range })
    }

    /// No claim may start until a search for orphaned claims has ended, and its end wakes the
    /// worker. So the worker must not wake up for a claim, or it would spin.
    pub(in crate::worker) fn pause(&mut self) {
        (self.front_at, self.waiting_since) = (None, None);
    }

    /// An attempt ended at a host that has refused events.
    pub(in crate::worker) fn made_room(&mut self, now: Instant) {
        self.backlog.made_room(now);
    }

    /// A claim succeeded; `took` is its duration. The returned value is for `admitted`.
    pub(in crate::worker) fn claimed(
        &mut self,
        claimed: &Claimed,
        limit: ClaimLimit,
        took: Duration,
    ) -> ClaimResult {
        self.claiming = 0;
        let is_front = matches!(self.place, Place::Front { .. });
        // One range of a divided scan does not show that there is no backlog.
        let is_partial = is_front && self.scan_start.is_partial();
        let bytes: usize = claimed.claims.iter().map(|claim| claim.payload.len()).sum();
        let is_full = claimed.claims.len() >= limit.events || bytes >= limit.bytes;
        if is_front {
            self.scan_start.claimed(claimed, is_full, took);
            self.request_full_scan();
        }
        if took > self.claim_max && !claimed.claims.is_empty() {
            // The leases are too short, so all events are released. Claims of this size would never
            // lead to an attempt.
            self.halve();
        }
        if is_full && took <= QUICK.min(self.claim_max / 4) {
            self.halvings = self.halvings.saturating_sub(1);
        }
        if is_full || (is_partial && self.backlog.is_deep()) {
            self.is_requested = true;
        } else {
            self.next_due_after = Some(claimed.now);
        }
        ClaimResult {
            place: self.place,
            now: claimed.now,
            last_due: claimed.last_due.unwrap_or(claimed.now),
            events: claimed.claims.len(),
            is_full,
            is_partial,
            refused: 0,
        }
    }

    /// The events of a claim were started, queued or refused.
    pub(in crate::worker) fn admitted(&mut self, result: ClaimResult, now: Instant) {
        self.backlog.claimed(result, now);
    }

    /// An event that the last claim may have missed must not wait for the poll.
    fn request_full_scan(&mut self) {
        if let Some(at) = self.scan_start.full_scan_at() {
            self.at = self.at.min(at);
        }
    }

    /// The worker stopped before the claim was sent.
    pub(in crate::worker) fn claim_not_sent(&mut self) {
        self.claiming = 0;
    }

    /// A claim failed or its outcome is unknown. The next one starts as soon as the database is
    /// open.
    pub(in crate::worker) fn claim_failed(&mut self, error: &StoreError) {
        self.claiming = 0;
        self.is_requested = true;
        if matches!(self.place, Place::Front { .. }) {
            self.scan_start.claim_failed(error.is_timeout());
        }
        if error.suggests_smaller_batch() {
            self.halve();
        }
    }

    fn halve(&mut self) {
        self.halvings = (self.halvings + 1).min(HALVINGS_MAX);
    }

    /// Returns the time after which to read the next due time, once per claim that was not full.
    /// Slow reads do not overlap.
    pub(in crate::worker) fn next_due_after(&mut self) -> Option<DateTime<Utc>> {
        if self.is_requested || self.is_reading_next_due {
            return None;
        }
        let after = self.next_due_after.take();
        self.is_reading_next_due = after.is_some();
        after
    }

    /// Sets the time of the next claim. Without a next due event, it is the next poll.
    pub(in crate::worker) fn set_next_due(&mut self, next: Option<Duration>, now: Instant) {
        self.is_reading_next_due = false;
        self.due_in(next.map_or(self.poll_interval, |next| next.min(self.poll_interval)), now);
    }
}

#[cfg(test)]
mod tests;
