//! The journal: a receipt of every webhook request, including refused ones, in the order of begin.
//!
//! The harness uses it as evidence. A receipt is therefore written before the first byte of the
//! response, and only its ending is added later. The journal decides nothing.

pub(crate) mod open;
mod receipt;
mod totals;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use tokio::sync::watch;
use tokio::time::Instant;

use crate::check::SignatureCheck;
use crate::ending::Ending;
use totals::Totals;

pub use receipt::{Moment, Receipt};
pub use totals::Counts;

/// Called at the begin and at the end of every request. It runs on the task of the connection, so
/// it must not block.
pub type Observer = Arc<dyn Fn(&Receipt, Moment) + Send + Sync>;

/// A journal. Clones write to the same receipts.
#[derive(Clone)]
pub struct Journal {
    inner: Arc<Inner>,
}

struct Inner {
    zero: Instant,
    keep: Keep,
    state: Mutex<State>,
    observers: RwLock<Vec<Observer>>,
    changed: watch::Sender<u64>,
    totals: Totals,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keep {
    Everything,
    Newest(usize),
    Nothing,
}

#[derive(Default)]
struct State {
    receipts: VecDeque<Receipt>,
    dropped: u64,
    arrivals: BTreeMap<Arrival, u32>,
    /// The keys of `arrivals`, oldest first. Empty unless the journal is bounded.
    arrivals_by_age: VecDeque<Arrival>,
}

/// Key of an arrival count: the ordinal if there is one, else the webhook id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Arrival {
    Ordinal(u64),
    Id(String),
}

impl Journal {
    /// Creates a journal that keeps every receipt and whose zero is now.
    #[expect(clippy::new_without_default, reason = "a default value must not depend on the clock")]
    pub fn new() -> Self {
        Self::with_zero(Instant::now())
    }

    /// Creates a journal that keeps every receipt and whose zero is `zero`.
    pub fn with_zero(zero: Instant) -> Self {
        Self::keeping(zero, Keep::Everything)
    }

    /// Creates a journal that keeps the newest `receipts_max` receipts and counts the dropped ones.
    pub fn bounded(receipts_max: usize) -> Self {
        Self::keeping(Instant::now(), Keep::Newest(receipts_max))
    }

    /// Creates a journal that keeps no receipts and only counts, for benchmarks.
    pub fn disabled() -> Self {
        Self::keeping(Instant::now(), Keep::Nothing)
    }

    fn keeping(zero: Instant, keep: Keep) -> Self {
        let inner = Inner {
            zero,
            keep,
            state: Mutex::default(),
            observers: RwLock::default(),
            changed: watch::Sender::new(0),
            totals: Totals::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Returns every kept receipt in the order of begin.
    pub fn receipts(&self) -> Vec<Receipt> {
        self.receipts_since(0)
    }

    /// Returns every kept receipt with a number above `seq`, in the order of begin.
    pub fn receipts_since(&self, seq: u64) -> Vec<Receipt> {
        let state = self.state();
        // The oldest kept receipt has the number `dropped + 1`.
        let skip = usize::try_from(seq.saturating_sub(state.dropped)).unwrap_or(usize::MAX);
        state.receipts.iter().skip(skip).cloned().collect()
    }

    /// Returns the number of receipts that were dropped because of the limit.
    pub fn dropped(&self) -> u64 {
        self.state().dropped
    }

    /// Returns the number of requests that have begun and not ended.
    pub fn open_requests(&self) -> usize {
        let counts = self.counts();
        usize::try_from(counts.requests.saturating_sub(counts.ended)).unwrap_or(usize::MAX)
    }

    /// Returns a counter that grows at each begin and each end, for waiting without polling.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.inner.changed.subscribe()
    }

    /// Returns the totals. They are read one after another, so they are consistent only if no
    /// request is open.
    pub fn counts(&self) -> Counts {
        self.inner.totals.counts()
    }

    /// Adds an observer. A journal without receipts does not call it.
    pub fn observe(&self, observer: Observer) {
        let mut observers = self.inner.observers.write().unwrap_or_else(PoisonError::into_inner);
        observers.push(observer);
    }

    /// Returns the time since the journal's zero in microseconds.
    pub fn now_us(&self) -> u64 {
        u64::try_from(self.inner.zero.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Counts one request with a valid signature and returns the count of its key. A journal
    /// without receipts returns 1.
    pub(crate) fn count_arrival(&self, key: Arrival) -> u32 {
        if self.inner.keep == Keep::Nothing {
            return 1;
        }
        let mut state = self.state();
        if let Some(count) = state.arrivals.get_mut(&key) {
            *count = count.saturating_add(1);
            return *count;
        }
        if let Keep::Newest(max) = self.inner.keep {
            if state.arrivals_by_age.len() >= max
                && let Some(oldest) = state.arrivals_by_age.pop_front()
            {
                state.arrivals.remove(&oldest);
            }
            state.arrivals_by_age.push_back(key.clone());
        }
        state.arrivals.insert(key, 1);
        1
    }

    fn record_begin(
        &self,
        signature: &SignatureCheck,
        receipt: impl FnOnce() -> Receipt,
    ) -> Option<Receipt> {
        self.inner.totals.count_begin(signature);
        (self.inner.keep != Keep::Nothing).then(|| self.push(receipt()))
    }

    fn push(&self, mut receipt: Receipt) -> Receipt {
        let mut state = self.state();
        if let Keep::Newest(max) = self.inner.keep
            && state.receipts.len() >= max
        {
            state.receipts.pop_front();
            state.dropped += 1;
        }
        let kept = u64::try_from(state.receipts.len()).expect("a length fits in 64 bits");
        receipt.seq = state.dropped + kept + 1;
        // The lock is held here, so `seq` and `begin_us` have the same order.
        receipt.begin_us = self.now_us();
        state.receipts.push_back(receipt.clone());
        receipt
    }

    fn write_ending(&self, receipt: &Receipt) {
        let mut state = self.state();
        let Some(index) = receipt.seq.checked_sub(state.dropped + 1) else {
            return;
        };
        let index = usize::try_from(index).expect("an index into memory fits in usize");
        if let Some(kept) = state.receipts.get_mut(index) {
            kept.end_us = receipt.end_us;
            kept.ending.clone_from(&receipt.ending);
        }
    }

    fn count_end(&self, valid: bool, ending: &Ending) {
        self.inner.totals.count_end(valid, ending);
    }

    /// Calls the observers if there is a receipt, then increments the counter of
    /// [`Journal::changed`].
    fn notify(&self, receipt: Option<&Receipt>, moment: Moment) {
        if let Some(receipt) = receipt {
            let observers = self.inner.observers.read().unwrap_or_else(PoisonError::into_inner);
            for observer in observers.iter() {
                observer(receipt, moment);
            }
        }
        self.inner.changed.send_modify(|count| *count += 1);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic under the lock leaves complete receipts, so the poisoned state is usable.
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Journal")
            .field("keep", &self.inner.keep)
            .field("counts", &self.counts())
            .finish_non_exhaustive()
    }
}
