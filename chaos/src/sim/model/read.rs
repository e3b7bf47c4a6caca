//! Reads: the API's view of an event, and the next due time.

use std::time::Duration;

use dispatcher::event::EventId;
use dispatcher::store::EventView;

use super::{Model, stored};

impl Model {
    /// Returns an event with its attempts in the order of their numbers.
    pub fn find(&self, id: EventId) -> Option<EventView> {
        let row = self.rows.get(&id)?;
        let attempts = self.attempts.range((id, 0)..=(id, u32::MAX));
        Some(EventView {
            id,
            status: row.counts.status.clone(),
            reason: row.counts.reason.clone(),
            target_url: row.target_url.clone(),
            round: i32::try_from(row.counts.round).unwrap_or(i32::MAX),
            replayable: row.counts.is_final(),
            lease: row.lease.as_ref().map(|lease| stored(lease.until_us)),
            attempt_count: i32::try_from(row.counts.attempt_count).unwrap_or(i32::MAX),
            next_retry_at: row.due_us.filter(|_| row.lease.is_none()).map(stored),
            created_at: stored(row.created_us),
            finished_at: row.finished_us.map(stored),
            attempts: attempts.map(|(_, attempt)| attempt.view.clone()).collect(),
        })
    }

    /// Returns the time until the first unleased event is due whose due time is after `after_us`.
    pub fn next_due(&self, now_us: i64, after_us: i64) -> Option<Duration> {
        let free = self.rows.values().filter(|row| row.lease.is_none());
        let due = free.filter_map(|row| row.due_us);
        let next = due.filter(|due| *due > after_us).min()?;
        Some(Duration::from_micros(u64::try_from(next - now_us).unwrap_or(0)))
    }
}
