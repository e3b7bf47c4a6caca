//! Backlog: claims that pass over due events whose hosts are busy.
//!
//! A claim takes the earliest due events. Under a deep backlog of one host, all other events would
//! wait until the earlier ones were claimed. So claims of the front take turns with claims that
//! start at a later due time, where the events are that became due recently. If hosts refuse most
//! events of the front, claims take as many as their attempts end. Pure: times are inputs.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;

use crate::store::CLAIM_BATCH_MAX;

/// Number of events of a claim that only tests whether hosts admit events again.
const PROBE: usize = 64;

/// Interval of these claims at the front. A hanging target with a deep backlog costs this many
/// claims and releases.
const PROBE_EVERY: Duration = Duration::from_millis(250);

/// Maximum wait of room for more of it, as each claim costs one commit.
const ROOM_WAIT_MAX: Duration = Duration::from_millis(5);

/// First step over refused events. It doubles with each claim that was refused.
const STEP_MIN: TimeDelta = TimeDelta::milliseconds(1);

/// Interval of the walks from the front to the present. They find events of other hosts that became
/// due among the refused ones.
const WALK_EVERY: Duration = Duration::from_secs(5);

/// Events are recent for this time. Claims of them start this much before the last one, because an
/// event becomes visible when its insert commits.
const MARGIN: TimeDelta = TimeDelta::seconds(2);

/// The events that a claim takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::worker) enum Place {
    /// The earliest due events.
    Front {
        /// Maximum number of events.
        events: usize,
    },
    /// Events that became due later.
    Beyond {
        /// Lower bound of the due time.
        from: DateTime<Utc>,
        /// Maximum number of events.
        events: usize,
    },
}

/// The result of a claim and of the admission of its events.
#[derive(Clone, Copy, Debug)]
pub(in crate::worker) struct ClaimResult {
    pub(super) place: Place,
    /// `now()` of the claim.
    pub(super) now: DateTime<Utc>,
    pub(super) last_due: DateTime<Utc>,
    pub(super) events: usize,
    /// The claim reached its limit, so more events may be due.
    pub(super) is_full: bool,
    /// The claim scanned one range of the due times.
    pub(super) is_partial: bool,
    /// Number of events that their hosts refused.
    pub(in crate::worker) refused: usize,
}

#[derive(Debug)]
pub(super) struct Backlog {
    /// Minimum room for a claim at the front without a wait.
    room_min: usize,
    /// `now()` of the last claim that took all events from its start to the present.
    seen_until: Option<DateTime<Utc>>,
    /// `None` if the last claim at the front took all due events.
    deep: Option<Deep>,
}

/// The state while more events are due than a claim takes.
#[derive(Debug)]
struct Deep {
    /// Attempts that ended at hosts that refuse events, since the last claim at the front.
    room: usize,
    room_since: Option<Instant>,
    /// Time of the next claim at the front without room, and its number of events.
    probe_at: Instant,
    probe: usize,
    was_probe: bool,
    walk_at: Instant,
    /// Scan start of the next claim of recent events.
    from: DateTime<Utc>,
    /// Last step over refused events, zero if the last claim was not refused.
    step: TimeDelta,
    was_front: bool,
}

impl ClaimResult {
    fn is_refused(&self) -> bool {
        self.refused * 2 > self.events
    }
}

impl Backlog {
    pub(super) fn new(room_min: usize) -> Self {
        Self { room_min, seen_until: None, deep: None }
    }

    /// Returns true if more events are due than a claim takes.
    pub(super) fn is_deep(&self) -> bool {
        self.deep.is_some()
    }

    /// An attempt ended at a host that has refused events.
    pub(super) fn made_room(&mut self, now: Instant) {
        if let Some(deep) = &mut self.deep {
            deep.room += 1;
            deep.room_since.get_or_insert(now);
        }
    }

    /// Returns the next claim. If `is_requested`, events may have become due.
    pub(super) fn next(&self, is_requested: bool, now: Instant) -> Option<Place> {
        let Some(deep) = &self.deep else {
            let events = CLAIM_BATCH_MAX;
            return is_requested.then_some(Place::Front { events });
        };
        let is_front_due = self.front_at().is_some_and(|at| now >= at);
        // In turns, so that neither place waits for the other.
        if is_front_due && !(is_requested && deep.was_front) {
            // A little more than the room, because some of the events belong to other hosts.
            let events = match deep.room {
                0 => deep.probe,
                room => room + room / 8 + 1,
            };
            return Some(Place::Front { events });
        }
        let events = if deep.step.is_zero() { CLAIM_BATCH_MAX } else { PROBE };
        is_requested.then_some(Place::Beyond { from: deep.from, events })
    }

    /// Returns the time of the next claim at the front under a backlog.
    pub(super) fn front_at(&self) -> Option<Instant> {
        let deep = self.deep.as_ref()?;
        let is_enough = deep.room >= self.room_min;
        let wait = if is_enough { Duration::ZERO } else { ROOM_WAIT_MAX };
        let room_at = deep.room_since.map(|since| since + wait);
        Some(room_at.map_or(deep.probe_at, |at| at.min(deep.probe_at)))
    }

    /// A claim of this place starts.
    pub(super) fn start(&mut self, place: Place) {
        let Some(deep) = &mut self.deep else { return };
        deep.was_front = matches!(place, Place::Front { .. });
        if deep.was_front {
            deep.was_probe = deep.room == 0;
            (deep.room, deep.room_since) = (0, None);
        }
    }

    pub(super) fn claimed(&mut self, result: ClaimResult, now: Instant) {
        if !result.is_full {
            if result.is_partial {
                return;
            }
            self.seen_until = Some(result.now);
        }
        match (result.place, &mut self.deep) {
            (Place::Beyond { .. }, Some(deep)) => deep.went_beyond(result),
            (Place::Beyond { .. }, None) => {}
            (Place::Front { .. }, _) if !result.is_full => self.deep = None,
            (Place::Front { .. }, deep) => {
                let deep = deep.get_or_insert_with(|| Deep::new(self.seen_until, result, now));
                deep.took_front(result, now);
            }
        }
    }
}

impl Deep {
    fn new(seen_until: Option<DateTime<Utc>>, result: ClaimResult, now: Instant) -> Self {
        Self {
            room: 0,
            room_since: None,
            probe_at: now,
            probe: CLAIM_BATCH_MAX,
            was_probe: true,
            walk_at: now + WALK_EVERY,
            from: seen_until.map_or(result.last_due, |seen| seen - MARGIN),
            step: TimeDelta::zero(),
            was_front: true,
        }
    }

    fn took_front(&mut self, result: ClaimResult, now: Instant) {
        if self.was_probe && !result.is_refused() {
            // Hosts have more room than ended attempts show, so larger probes follow immediately.
            (self.probe, self.probe_at) = ((self.probe * 2).min(CLAIM_BATCH_MAX), now);
        } else {
            (self.probe, self.probe_at) = (PROBE, now + PROBE_EVERY);
        }
        if now >= self.walk_at {
            self.walk_at = now + WALK_EVERY;
            (self.step, self.from) = (STEP_MIN, result.last_due + STEP_MIN);
        }
    }

    fn went_beyond(&mut self, result: ClaimResult) {
        // Refused events that are due again take the room before the front.
        let admitted = result.events - result.refused;
        self.room = self.room.saturating_sub(admitted);
        if self.room == 0 {
            self.room_since = None;
        }
        let recent = result.now - MARGIN;
        let rest = recent - result.last_due;
        (self.step, self.from) = if !result.is_full {
            (TimeDelta::zero(), recent)
        } else if result.is_refused() && rest > TimeDelta::zero() {
            // Not over recent events, which would then wait for the next walk.
            let step = (self.step * 2).max(STEP_MIN).min(rest);
            (step, result.last_due + step)
        } else {
            (TimeDelta::zero(), result.last_due)
        };
    }
}

#[cfg(test)]
mod tests;
