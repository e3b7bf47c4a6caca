//! Results on their way to the store: gathered into batches, kept until they are written.
//!
//! Pure. One poisoned result must not block the others: a batch whose data is refused is split, down to the one, which then
//! goes without the receiver's words.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::event::Settlement;
use crate::store::{SETTLE_BATCH_MAX, StoreError};

/// Settles under way at once.
const CALLS_MAX: usize = 2;

/// As many results are settled without waiting for more.
const WORTH_SETTLING: usize = 64;

/// How long the first result of a batch waits for others.
const LINGER: Duration = Duration::from_millis(2);

#[derive(Debug, Default)]
pub(super) struct Settling {
    fresh: Vec<Settlement>,
    /// When the oldest of `fresh` came.
    since: Option<Instant>,
    /// Batches that failed before.
    again: VecDeque<Vec<Settlement>>,
    calls: usize,
    /// Results in calls under way.
    called: usize,
}

impl Settling {
    pub(super) fn push(&mut self, settlement: Settlement, now: Instant) {
        self.since.get_or_insert(now);
        self.fresh.push(settlement);
    }

    /// Results that are not yet written.
    pub(super) fn len(&self) -> usize {
        self.fresh.len() + self.called + self.again.iter().map(Vec::len).sum::<usize>()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.len() == 0 && self.calls == 0
    }

    /// When a batch is due.
    pub(super) fn at(&self) -> Option<Instant> {
        if self.calls < CALLS_MAX {
            self.since.map(|since| since + LINGER)
        } else {
            None
        }
    }

    /// The next batch to be written now. `quiet` says that no further result is to be expected.
    pub(super) fn next_batch(&mut self, now: Instant, quiet: bool) -> Option<Vec<Settlement>> {
        if self.calls >= CALLS_MAX {
            return None;
        }
        let batch = match self.again.pop_front() {
            Some(batch) => batch,
            None => self.fresh_batch(now, quiet)?,
        };
        self.calls += 1;
        self.called += batch.len();
        Some(batch)
    }

    fn fresh_batch(&mut self, now: Instant, quiet: bool) -> Option<Vec<Settlement>> {
        let since = self.since?;
        if !quiet && self.fresh.len() < WORTH_SETTLING && now - since < LINGER {
            return None;
        }
        let rest = self.fresh.split_off(self.fresh.len().min(SETTLE_BATCH_MAX));
        self.since = if rest.is_empty() { None } else { Some(now) };
        Some(std::mem::replace(&mut self.fresh, rest))
    }

    /// A batch was written.
    pub(super) fn ended(&mut self, size: usize) {
        self.calls -= 1;
        self.called -= size;
    }

    /// A batch was not written, or nobody knows: it will be tried again.
    pub(super) fn failed(&mut self, mut batch: Vec<Settlement>, error: &StoreError) {
        self.ended(batch.len());
        if !error.is_about_the_data() {
            self.again.push_front(batch);
        } else if batch.len() > 1 {
            let rest = batch.split_off(batch.len() / 2);
            self.again.extend([batch, rest]);
        } else if let Some(mut alone) = batch.pop() {
            if alone.result.snippet.take().is_some() | alone.result.error.take().is_some() {
                self.again.push_back(vec![alone]);
            } else {
                tracing::error!(event.id = %alone.key.id, attempt = alone.key.number, %error,
                    "a result cannot be written: its attempt ends with its lease");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use uuid::Uuid;

    use super::*;
    use crate::event::{AttemptResult, ClaimKey, Disposition, EventId, LeaseToken, Outcome};

    fn result(n: u32) -> Settlement {
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

    fn cut() -> StoreError {
        StoreError::Unknown {
            operation: "testing",
            reason: "cut".into(),
        }
    }

    fn poisoned() -> StoreError {
        let (operation, reason) = ("testing", "a NUL in text".into());
        StoreError::Refused {
            operation,
            sqlstate: "22021".into(),
            reason,
        }
    }

    #[test]
    fn results_linger_for_company_but_not_when_none_will_come() {
        let now = Instant::now();
        let mut settling = Settling::default();
        settling.push(result(1), now);
        assert!(settling.next_batch(now, false).is_none());
        assert_eq!(settling.at(), Some(now + LINGER));
        settling.push(result(2), now + LINGER);
        assert_eq!(
            settling
                .next_batch(now + LINGER, false)
                .map(|batch| batch.len()),
            Some(2)
        );
        settling.push(result(3), now);
        assert!(settling.next_batch(now, true).is_some());
        settling.push(result(4), now);
        assert!(
            settling.next_batch(now, true).is_none(),
            "two calls at once are enough"
        );
        assert_eq!(settling.len(), 4);
    }

    #[test]
    fn what_was_not_written_stays() {
        let now = Instant::now();
        let mut settling = Settling::default();
        settling.push(result(1), now);
        let batch = settling.next_batch(now, true).expect("a batch");
        settling.failed(batch, &cut());
        assert_eq!(settling.len(), 1);
        let batch = settling.next_batch(now, true).expect("the same batch");
        settling.ended(batch.len());
        assert!(settling.is_idle());
    }

    // The store refuses every batch that holds result 5; all the others must get through, and 5 without its snippet too.
    #[test]
    fn one_poisoned_result_does_not_block_its_batch() {
        let now = Instant::now();
        let mut settling = Settling::default();
        (1..=8).for_each(|n| settling.push(result(n), now));
        let mut written = Vec::new();
        while let Some(batch) = settling.next_batch(now, true) {
            if batch
                .iter()
                .any(|result| result.key.number == 5 && result.result.snippet.is_some())
            {
                settling.failed(batch, &poisoned());
            } else {
                settling.ended(batch.len());
                written.extend(batch.iter().map(|result| result.key.number));
            }
        }
        written.sort_unstable();
        assert_eq!(written, [1, 2, 3, 4, 5, 6, 7, 8]);
        assert!(settling.is_idle());
    }
}
