//! The figures of a run.

use serde::Serialize;

use crate::checker::duplicates;
use crate::checker::no_loss::{Fate, fate};
use crate::history::History;
use crate::history::facts::Facts;

/// The figures of a run: `lost` rests on client acknowledgements and receivers alone, where the
/// dispatcher does not admit that an event is dead or still pending.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Events that were posted.
    pub posted: u64,
    /// Events with a 202.
    pub accepted: u64,
    /// Accepted events that a receiver took.
    pub delivered: u64,
    /// Accepted events that are dead and were not taken.
    pub dead: u64,
    /// Accepted events that were still on their way at the end, or could not be read.
    pub late: u64,
    /// Accepted events of which nothing remains.
    pub lost: u64,
    /// Events without a 202 that a receiver took all the same.
    pub recovered: u64,
    /// Events without a 202 whose post has an unknown end, and that nobody took.
    pub unknown: u64,
    /// Every 2xx of an event beyond its first.
    pub duplicates: u64,
    /// Requests at the receivers.
    pub requests: u64,
    /// Kills of workers that ended an open request.
    pub kills: u64,
}

impl Totals {
    /// Counts.
    #[must_use]
    pub fn of(history: &History) -> Totals {
        let facts = Facts::of(history);
        let mut totals = Totals {
            requests: facts.receipts().count() as u64,
            ..Totals::default()
        };
        for event in facts.events.values() {
            totals.posted += u64::from(!event.invokes.is_empty());
            if event.acknowledged.is_empty() {
                let taken = event.successes().next().is_some();
                totals.recovered += u64::from(taken);
                totals.unknown += u64::from(!taken && !event.unknown.is_empty());
                continue;
            }
            totals.accepted += 1;
            *match fate(event) {
                Fate::Delivered => &mut totals.delivered,
                Fate::Dead => &mut totals.dead,
                Fate::Late | Fate::Unread => &mut totals.late,
                Fate::Lost => &mut totals.lost,
            } += 1;
        }
        totals.duplicates = duplicates::by_cause(&facts).values().sum();
        totals.kills = facts
            .faults
            .iter()
            .filter(|fault| fault.is_counted_kill())
            .count() as u64;
        totals
    }
}
