//! Totals that are kept without a lock, also where no receipts are.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{Counts, Ending, SignatureCheck};

#[derive(Default)]
pub(super) struct Totals {
    requests: AtomicU64,
    valid: AtomicU64,
    invalid: AtomicU64,
    unchecked: AtomicU64,
    ended: AtomicU64,
    accepted: AtomicU64,
}

impl Totals {
    pub(super) fn counts(&self) -> Counts {
        // `ended` first: an end between the two reads must not make it exceed `requests`.
        let ended = self.ended.load(Ordering::SeqCst);
        Counts {
            ended,
            requests: self.requests.load(Ordering::SeqCst),
            valid: self.valid.load(Ordering::SeqCst),
            invalid: self.invalid.load(Ordering::SeqCst),
            unchecked: self.unchecked.load(Ordering::SeqCst),
            accepted: self.accepted.load(Ordering::SeqCst),
        }
    }

    pub(super) fn count_begin(&self, signature: &SignatureCheck) {
        self.requests.fetch_add(1, Ordering::SeqCst);
        let by_result = match signature {
            SignatureCheck::Valid => &self.valid,
            SignatureCheck::Invalid { .. } => &self.invalid,
            SignatureCheck::Unchecked { .. } => &self.unchecked,
        };
        by_result.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn count_end(&self, valid: bool, ending: &Ending) {
        if valid && ending.is_success() {
            self.accepted.fetch_add(1, Ordering::SeqCst);
        }
        self.ended.fetch_add(1, Ordering::SeqCst);
    }
}
