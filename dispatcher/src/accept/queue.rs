//! Queues of posts and the rule of the batches. Pure: times are inputs.
//!
//! Posts with and without an idempotency key have queues of their own, because an insert with a key
//! may wait for a transaction elsewhere. If nothing is on its way, a batch takes what is there. A
//! second batch starts beside the first only if it is full. A batch whose data Postgres refuses, or
//! one of whose keys is locked, is halved until the row is alone, so that it does not fail others.

use std::collections::{HashSet, VecDeque};

use tokio::time::Instant;

use crate::event::NewEvent;
use crate::store::{ALONE_BYTES_MIN, StoreError};

/// Number of events of a full batch.
const BATCH_MAX: usize = 128;

/// Payload bytes of a full batch.
const BATCH_BYTES_MAX: usize = ALONE_BYTES_MIN;

/// Concurrent batches of posts of normal size.
const CALLS_MAX: usize = 2;

/// A post that waits.
#[derive(Debug)]
pub(super) struct Item<W> {
    pub(super) event: NewEvent,
    /// From this time on, the client has its 503.
    pub(super) deadline: Instant,
    pub(super) waiter: W,
}

/// Posts that are sent in one statement.
#[derive(Debug)]
pub(super) struct Batch<W> {
    pub(super) kind: Kind,
    pub(super) items: Vec<Item<W>>,
}

/// The kinds of posts. Each has its own queue and its own limit of concurrent batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Without a key.
    Plain,
    /// With a key, at most one post per key.
    Keyed,
    /// Sent alone: a post whose key another transaction holds, or whose target is not ASCII.
    /// Postgres is more likely to refuse such a target.
    Alone,
    /// Sent alone: a large payload, which may take long on a slow link.
    Large,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Plain, Self::Keyed, Self::Alone, Self::Large];

    fn of(event: &NewEvent) -> Self {
        if event.payload.len() >= ALONE_BYTES_MIN {
            Self::Large
        } else if !event.target.url().is_ascii() {
            Self::Alone
        } else if event.idempotency_key.is_some() {
            Self::Keyed
        } else {
            Self::Plain
        }
    }
}

#[derive(Debug)]
struct Lane<W> {
    new: VecDeque<Item<W>>,
    /// Payload bytes in `new`.
    bytes: usize,
    /// Parts of failed batches.
    retries: VecDeque<Vec<Item<W>>>,
    /// The last batch was a retry. Posts that are sent alone take turns with retries.
    was_retry: bool,
    calls: usize,
    calls_max: usize,
}

#[derive(Debug)]
pub(super) struct Queue<W> {
    /// In the order of [`Kind::ALL`].
    lanes: [Lane<W>; 4],
    /// Keys of posts that are on their way or are sent again. A second post with such a key waits
    /// here, because in Postgres it would wait for the first one and delay its whole batch.
    busy: HashSet<String>,
}

impl<W> Queue<W> {
    /// Creates the queues for this number of connections. Large posts use at most half of them.
    pub(super) fn new(connections: u32) -> Self {
        let large_max = usize::try_from(connections.div_ceil(2)).unwrap_or(1);
        let lanes = Kind::ALL.map(|kind| Lane {
            new: VecDeque::new(),
            bytes: 0,
            retries: VecDeque::new(),
            was_retry: false,
            calls: 0,
            calls_max: match kind {
                Kind::Plain | Kind::Keyed => CALLS_MAX,
                Kind::Alone => 1,
                Kind::Large => large_max,
            },
        });
        Self { lanes, busy: HashSet::new() }
    }

    pub(super) fn push(&mut self, item: Item<W>) {
        let lane = &mut self.lanes[Kind::of(&item.event) as usize];
        lane.bytes += item.event.payload.len();
        lane.new.push_back(item);
    }

    /// Returns the next batch to send now. Posts whose client has got a response are dropped.
    pub(super) fn next_batch(&mut self, now: Instant) -> Option<Batch<W>> {
        Kind::ALL.into_iter().find_map(|kind| {
            let items = self.next_items(kind, now)?;
            self.lanes[kind as usize].calls += 1;
            Some(Batch { kind, items })
        })
    }

    fn next_items(&mut self, kind: Kind, now: Instant) -> Option<Vec<Item<W>>> {
        let lane = &mut self.lanes[kind as usize];
        if lane.calls >= lane.calls_max {
            return None;
        }
        let is_alone = matches!(kind, Kind::Alone | Kind::Large);
        let takes_new = is_alone && std::mem::take(&mut lane.was_retry) && !lane.new.is_empty();
        while !takes_new && let Some(retry) = lane.retries.pop_front() {
            let (live, late): (Vec<_>, Vec<_>) =
                retry.into_iter().partition(|item| item.deadline > now);
            release_keys(&mut self.busy, &late);
            if !live.is_empty() {
                lane.was_retry = true;
                return Some(live);
            }
        }
        let is_full = lane.new.len() >= BATCH_MAX || lane.bytes >= BATCH_BYTES_MAX;
        if lane.calls > 0 && !is_alone && !is_full {
            return None;
        }
        let mut items = lane.take(now, if is_alone { 1 } else { BATCH_MAX }, &mut self.busy);
        // Statements that take their row locks in one order cannot deadlock.
        items.sort_by(|a, b| a.event.idempotency_key.cmp(&b.event.idempotency_key));
        (!items.is_empty()).then_some(items)
    }

    /// A batch is stored. Returns its posts.
    pub(super) fn stored(&mut self, batch: Batch<W>) -> Vec<Item<W>> {
        self.lanes[batch.kind as usize].calls -= 1;
        release_keys(&mut self.busy, &batch.items);
        batch.items
    }

    /// A batch failed. Returns its posts, unless they are sent again in smaller batches.
    pub(super) fn failed(&mut self, mut batch: Batch<W>, error: &StoreError) -> Vec<Item<W>> {
        let lane = &mut self.lanes[batch.kind as usize];
        lane.calls -= 1;
        let is_of_one_row = error.is_about_the_data() || error.is_locked();
        if is_of_one_row && batch.items.len() > 1 {
            let rest = batch.items.split_off(batch.items.len() / 2);
            lane.retries.extend([batch.items, rest]);
            return Vec::new();
        }
        if error.is_locked() && batch.kind != Kind::Large {
            // In turns with others, until the client has got a response.
            self.lanes[Kind::Alone as usize].retries.push_back(batch.items);
            return Vec::new();
        }
        release_keys(&mut self.busy, &batch.items);
        batch.items
    }
}

impl<W> Lane<W> {
    /// Takes the first posts, up to the limits, and marks their keys. Posts with a busy key stay.
    fn take(&mut self, now: Instant, max: usize, busy: &mut HashSet<String>) -> Vec<Item<W>> {
        let (mut taken, mut waiting) = (Vec::new(), Vec::new());
        let mut bytes = 0;
        while taken.len() < max
            && let Some(item) = self.new.pop_front()
        {
            let size = item.event.payload.len();
            if item.deadline <= now {
                self.bytes -= size;
            } else if !taken.is_empty() && bytes + size > BATCH_BYTES_MAX {
                self.new.push_front(item);
                break;
            } else if item.event.idempotency_key.as_ref().is_some_and(|key| busy.contains(key)) {
                waiting.push(item);
            } else {
                busy.extend(item.event.idempotency_key.clone());
                bytes += size;
                self.bytes -= size;
                taken.push(item);
            }
        }
        for item in waiting.into_iter().rev() {
            self.new.push_front(item);
        }
        taken
    }
}

fn release_keys<W>(busy: &mut HashSet<String>, items: &[Item<W>]) {
    for key in items.iter().filter_map(|item| item.event.idempotency_key.as_ref()) {
        busy.remove(key);
    }
}

#[cfg(test)]
mod tests;
