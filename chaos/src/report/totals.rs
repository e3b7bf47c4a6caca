//! The figures of a run.

use serde::Serialize;

use crate::checker::duplicates;
use crate::checker::no_loss::{Fate, fate};
use crate::history::History;
use crate::history::facts::Facts;

/// The figures of a run. An event counts as lost by the observations of clients and receivers,
/// unless the dispatcher reports that it is dead or still pending.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Posted events.
    pub posted: u64,
    /// Events with a 202.
    pub accepted: u64,
    /// Accepted events with a complete 2xx from a receiver.
    pub delivered: u64,
    /// Accepted events that are dead and were not delivered.
    pub dead: u64,
    /// Accepted events that were pending at the end, or whose state could not be read.
    pub late: u64,
    /// Accepted events that were not delivered and that the dispatcher does not account for.
    pub lost: u64,
    /// Events without a 202 that were delivered.
    pub recovered: u64,
    /// Events that were not delivered and whose post had no definite answer.
    pub unknown: u64,
    /// 2xx responses to an event after its first.
    pub duplicates: u64,
    /// Requests at the receivers.
    pub requests: u64,
    /// Kills of workers that ended an open request.
    pub kills: u64,
}

impl Totals {
    /// Counts the events, requests and kills of a history.
    pub fn of(history: &History) -> Self {
        let facts = Facts::of(history);
        let mut totals = Self { requests: facts.receipts().count() as u64, ..Self::default() };
        for event in facts.events.values() {
            totals.posted += u64::from(!event.invokes.is_empty());
            if event.acknowledged.is_empty() {
                let delivered = event.successes().next().is_some();
                totals.recovered += u64::from(delivered);
                totals.unknown += u64::from(!delivered && !event.unknown.is_empty());
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
        let kills = facts.faults.iter().filter(|fault| fault.is_counted_kill());
        totals.kills = kills.count() as u64;
        totals
    }
}
