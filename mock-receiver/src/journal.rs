//! The journal: a receipt of every webhook request, refused ones too, in the order of begin.
//!
//! It is the harness's evidence, so it is written before the first byte of an answer and never
//! edited afterwards, except for the ending. It must not decide anything.

mod open;
mod receipt;
mod totals;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use tokio::sync::watch;
use tokio::time::Instant;

pub(crate) use open::OpenRequest;
use totals::Totals;

pub use receipt::{Counts, Ending, Moment, Receipt, SignatureCheck, UncheckedReason};

/// Called at the begin and at the end of every request, on the connection's own task: it must be
/// quick and must not block.
pub type Observer = Arc<dyn Fn(&Receipt, Moment) + Send + Sync>;

/// A shared journal; clones write to the same one.
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
    /// The keys of `arrivals`, oldest first; filled only where the journal is bounded.
    arrivals_by_age: VecDeque<Arrival>,
}

/// What arrivals are counted by: the ordinal when there is one, otherwise the webhook id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Arrival {
    Ordinal(u64),
    Id(String),
}

impl Journal {
    /// A journal without bound whose time begins now.
    #[expect(
        clippy::new_without_default,
        reason = "it reads the clock, which is no default"
    )]
    pub fn new() -> Self {
        Self::with_zero(Instant::now())
    }

    /// A journal without bound whose times count from `zero`.
    pub fn with_zero(zero: Instant) -> Self {
        Self::keeping(zero, Keep::Everything)
    }

    /// A journal that keeps the newest receipts and says how many it dropped.
    pub fn bounded(receipts_max: usize) -> Self {
        Self::keeping(Instant::now(), Keep::Newest(receipts_max))
    }

    /// A journal that only counts: for load figures.
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
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Every receipt that is kept, in the order of begin.
    pub fn receipts(&self) -> Vec<Receipt> {
        self.receipts_since(0)
    }

    /// Every kept receipt whose `seq` is greater than `seq`, in the order of begin.
    pub fn receipts_since(&self, seq: u64) -> Vec<Receipt> {
        let state = self.state();
        // The first one that is kept has the number `dropped + 1`.
        let skip = usize::try_from(seq.saturating_sub(state.dropped)).unwrap_or(usize::MAX);
        state.receipts.iter().skip(skip).cloned().collect()
    }

    /// How many of the oldest receipts are no longer kept.
    pub fn dropped(&self) -> u64 {
        self.state().dropped
    }

    /// How many requests have begun and not ended.
    pub fn open_requests(&self) -> usize {
        let counts = self.counts();
        usize::try_from(counts.requests.saturating_sub(counts.ended)).unwrap_or(usize::MAX)
    }

    /// A number that grows at each begin and at each end: wait on it instead of polling.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.inner.changed.subscribe()
    }

    /// The totals so far. They are read one by one, so they are exact only at rest.
    pub fn counts(&self) -> Counts {
        self.inner.totals.counts()
    }

    /// Adds an observer. It sees nothing of a journal that only counts.
    pub fn observe(&self, observer: Observer) {
        let mut observers = self
            .inner
            .observers
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        observers.push(observer);
    }

    /// Microseconds since the journal's zero.
    pub fn now_us(&self) -> u64 {
        u64::try_from(self.inner.zero.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Counts one properly signed request and says the how-manieth of its key it is. A journal
    /// that only counts knows no keys and answers 1.
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

    /// Begins a request. The receipt is made only where it is kept; its `seq` is set here.
    pub(crate) fn begin(
        &self,
        signature: &SignatureCheck,
        receipt: impl FnOnce() -> Receipt,
    ) -> OpenRequest {
        self.inner.totals.count_begin(signature);
        let receipt = (self.inner.keep != Keep::Nothing).then(|| self.push(receipt()));
        OpenRequest::begin(self.clone(), signature.is_valid(), receipt)
    }

    fn push(&self, mut receipt: Receipt) -> Receipt {
        let mut state = self.state();
        if let Keep::Newest(max) = self.inner.keep
            && state.receipts.len() >= max
        {
            state.receipts.pop_front();
            state.dropped += 1;
        }
        let kept = u64::try_from(state.receipts.len()).expect("a length fits into 64 bits");
        receipt.seq = state.dropped + kept + 1;
        // Stamped under the lock, so that `seq` and `begin_us` give the same order.
        receipt.begin_us = self.now_us();
        state.receipts.push_back(receipt.clone());
        receipt
    }

    fn write_ending(&self, receipt: &Receipt) {
        let mut state = self.state();
        let Some(index) = receipt.seq.checked_sub(state.dropped + 1) else {
            return;
        };
        let index = usize::try_from(index).expect("the journal is in memory");
        if let Some(kept) = state.receipts.get_mut(index) {
            kept.end_us = receipt.end_us;
            kept.ending.clone_from(&receipt.ending);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic in between leaves whole receipts behind: go on with them.
        self.inner
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
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
