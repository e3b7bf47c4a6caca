//! Totals of a journal, counted without a lock. A journal without receipts has them too.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use crate::check::SignatureCheck;
use crate::ending::Ending;

/// Numbers of requests by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Requests that have begun.
    pub requests: u64,
    /// Requests with a valid signature.
    pub valid: u64,
    /// Complete requests with an invalid signature.
    pub invalid: u64,
    /// Requests whose signature was not checked.
    pub unchecked: u64,
    /// Requests that have ended.
    pub ended: u64,
    /// Requests with a valid signature and a complete 2xx response.
    pub accepted: u64,
}

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
        // `ended` is read first. Otherwise a request that ends between the two reads could make it
        // exceed `requests`.
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
