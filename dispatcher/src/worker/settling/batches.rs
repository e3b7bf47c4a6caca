//! Batches of results for settle. Keeps every result until it is written.
//!
//! A batch whose data Postgres refuses is split until the refused result is alone, so that it does
//! not block the others. That result is then written without the bytes of the receiver. A batch
//! that times out is split too: a transaction elsewhere may hold the lock of one row. Pure except
//! for one log line.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::event::{LeaseToken, Settlement};
use crate::store::{SETTLE_BATCH_MAX, StoreError};

/// Maximum number of concurrent settles.
const CALLS_MAX: usize = 2;

/// Number of results that are settled without waiting for more.
const BATCH_MIN: usize = 128;

/// Maximum time that the first result of a batch waits for others.
const LINGER: Duration = Duration::from_millis(5);

#[derive(Debug, Default)]
pub(in crate::worker) struct Batches {
    new: Vec<Settlement>,
    /// Arrival of the oldest result in `new`.
    since: Option<Instant>,
    /// Batches that failed.
    retries: VecDeque<Vec<Settlement>>,
    /// The last batch was a retry. New batches take turns with retries that time out.
    was_retry: bool,
    calls: usize,
    /// Number of results in open calls.
    in_calls: usize,
}

impl Batches {
    pub(in crate::worker) fn push(&mut self, settlement: Settlement, now: Instant) {
        self.since.get_or_insert(now);
        self.new.push(settlement);
    }

    /// Returns the number of results that are not yet written.
    pub(in crate::worker) fn len(&self) -> usize {
        self.new.len() + self.in_calls + self.retries.iter().map(Vec::len).sum::<usize>()
    }

    pub(in crate::worker) fn is_idle(&self) -> bool {
        self.len() == 0 && self.calls == 0
    }

    /// Returns the time at which the next batch is due.
    pub(in crate::worker) fn at(&self) -> Option<Instant> {
        if self.calls < CALLS_MAX { self.since.map(|since| since + LINGER) } else { None }
    }

    /// Returns the next batch to write now. If `expects_more`, new results wait for others up to
    /// `LINGER`.
    pub(in crate::worker) fn next_batch(
        &mut self,
        now: Instant,
        expects_more: bool,
    ) -> Option<Vec<Settlement>> {
        if self.calls >= CALLS_MAX {
            return None;
        }
        let new_first = if self.was_retry { self.new_batch(now, expects_more) } else { None };
        self.was_retry = new_first.is_none() && !self.retries.is_empty();
        let batch = new_first.or_else(|| self.retries.pop_front());
        let batch = batch.or_else(|| self.new_batch(now, expects_more))?;
        self.calls += 1;
        self.in_calls += batch.len();
        Some(batch)
    }

    fn new_batch(&mut self, now: Instant, expects_more: bool) -> Option<Vec<Settlement>> {
        let since = self.since?;
        if expects_more && self.new.len() < BATCH_MIN && now - since < LINGER {
            return None;
        }
        let rest = self.new.split_off(self.new.len().min(SETTLE_BATCH_MAX));
        self.since = if rest.is_empty() { None } else { Some(now) };
        Some(std::mem::replace(&mut self.new, rest))
    }

    /// A batch of `len` results was written.
    pub(in crate::worker) fn written(&mut self, len: usize) {
        self.calls -= 1;
        self.in_calls -= len;
    }

    /// A batch was not written, or the outcome is unknown. It is written again, split if its data
    /// was refused or if it timed out.
    ///
    /// Returns the token of a result that cannot be written at all.
    pub(in crate::worker) fn failed(
        &mut self,
        mut batch: Vec<Settlement>,
        error: &StoreError,
    ) -> Option<LeaseToken> {
        self.written(batch.len());
        if !error.is_about_the_data() && !error.is_timeout() {
            self.retries.push_front(batch);
        } else if batch.len() > 1 {
            let rest = batch.split_off(batch.len() / 2);
            self.retries.extend([batch, rest]);
        } else if error.is_timeout() {
            self.retries.push_back(batch);
        } else if let Some(mut single) = batch.pop() {
            if single.result.snippet.take().is_some() | single.result.error.take().is_some() {
                self.retries.push_back(vec![single]);
            } else {
                tracing::error!(event.id = %single.key.id, attempt = single.key.number, %error,
                    "a result cannot be written, its lease will expire");
                return Some(single.key.token);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use uuid::Uuid;

    use super::*;
    use crate::event::{AttemptResult, ClaimKey, Disposition, EventId, LeaseToken, Outcome};

    fn settlement(n: u32) -> Settlement {
        let key = ClaimKey {
            id: EventId(Uuid::from_u128(n.into())),
            token: LeaseToken(Uuid::from_u128(n.into())),
            number: n,
        };
        Settlement {
            key,
            result: AttemptResult {
                outcome: Outcome::Timeout,
                error: None,
                snippet: Some(vec![0]),
            },
            disposition: Disposition::Delivered,
            started_at: DateTime::UNIX_EPOCH,
            duration: Duration::ZERO,
        }
    }

    fn connection_lost() -> StoreError {
        StoreError::Unknown { operation: "testing", reason: "connection lost".into() }
    }

    fn data_refused() -> StoreError {
        StoreError::Refused {
            operation: "testing",
            sqlstate: "22021".into(),
            reason: "a NUL in text".into(),
        }
    }

    #[test]
    fn results_wait_for_others_only_while_more_are_expected() {
        let now = Instant::now();
        let mut batches = Batches::default();
        batches.push(settlement(1), now);
        assert!(batches.next_batch(now, true).is_none());
        assert_eq!(batches.at(), Some(now + LINGER));
        batches.push(settlement(2), now + LINGER);
        let batch = batches.next_batch(now + LINGER, true);
        assert_eq!(batch.map(|batch| batch.len()), Some(2));
        batches.push(settlement(3), now);
        assert!(batches.next_batch(now, false).is_some());
        batches.push(settlement(4), now);
        assert!(batches.next_batch(now, false).is_none(), "two open calls");
        assert_eq!(batches.len(), 4);
    }

    #[test]
    fn unwritten_results_are_kept() {
        let now = Instant::now();
        let mut batches = Batches::default();
        batches.push(settlement(1), now);
        let batch = batches.next_batch(now, false).expect("a batch");
        batches.failed(batch, &connection_lost());
        assert_eq!(batches.len(), 1);
        let batch = batches.next_batch(now, false).expect("the same batch");
        batches.written(batch.len());
        assert!(batches.is_idle());
    }

    fn timed_out() -> StoreError {
        StoreError::Refused {
            operation: "testing",
            sqlstate: "57014".into(),
            reason: "canceling statement due to statement timeout".into(),
        }
    }

    // A transaction elsewhere holds the locks of rows 2 and 5. All others must be written, and new
    // results must not wait for the two.
    #[test]
    fn results_of_locked_rows_do_not_block_others() {
        let now = Instant::now();
        let mut batches = Batches::default();
        (1..=8).for_each(|n| batches.push(settlement(n), now));
        let mut written = Vec::new();
        for _ in 0..30 {
            let batch = batches.next_batch(now, false).expect("two rows are locked");
            if batch.iter().any(|settlement| [2, 5].contains(&settlement.key.number)) {
                batches.failed(batch, &timed_out());
            } else {
                batches.written(batch.len());
                written.extend(batch.iter().map(|settlement| settlement.key.number));
            }
        }
        written.sort_unstable();
        assert_eq!(written, [1, 3, 4, 6, 7, 8]);
        let locked = batches.next_batch(now, false);
        assert_eq!(locked.map(|batch| batch.len()), Some(1));
        batches.push(settlement(9), now);
        let next = batches.next_batch(now, false).expect("a new result");
        assert_eq!(next[0].key.number, 9);
    }

    // The store refuses every batch that contains the snippet of result 5. All others must be
    // written, and 5 without it.
    #[test]
    fn refused_result_does_not_block_its_batch() {
        let now = Instant::now();
        let mut batches = Batches::default();
        (1..=8).for_each(|n| batches.push(settlement(n), now));
        let mut written = Vec::new();
        while let Some(batch) = batches.next_batch(now, false) {
            let is_refused = |settlement: &Settlement| {
                settlement.key.number == 5 && settlement.result.snippet.is_some()
            };
            if batch.iter().any(is_refused) {
                batches.failed(batch, &data_refused());
            } else {
                batches.written(batch.len());
                written.extend(batch.iter().map(|settlement| settlement.key.number));
            }
        }
        written.sort_unstable();
        assert_eq!(written, [1, 2, 3, 4, 5, 6, 7, 8]);
        assert!(batches.is_idle());
    }
}
