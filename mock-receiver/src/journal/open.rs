//! A request between its begin and its end.

use std::sync::PoisonError;

use super::{Ending, Journal, Moment, Receipt};

/// A request that has begun. Dropped without an ending it ends as stopped, so none stays open.
pub(crate) struct OpenRequest {
    journal: Journal,
    valid: bool,
    receipt: Option<Receipt>,
    ended: bool,
}

impl OpenRequest {
    pub(super) fn begin(journal: Journal, valid: bool, receipt: Option<Receipt>) -> Self {
        let open = Self {
            journal,
            valid,
            receipt,
            ended: false,
        };
        open.tell(Moment::Begin);
        open
    }

    /// Ends the request and gives its receipt, where receipts are kept.
    pub(crate) fn end(mut self, ending: Ending) -> Option<Receipt> {
        self.write(ending);
        self.receipt.take()
    }

    fn write(&mut self, ending: Ending) {
        self.ended = true;
        let totals = &self.journal.inner.totals;
        if let Some(receipt) = &mut self.receipt {
            receipt.end_us = Some(self.journal.now_us());
            receipt.ending = Some(ending.clone());
            self.journal.write_ending(receipt);
        }
        // Counted after it was written: whoever sees no open request sees every ending.
        totals.count_end(self.valid, &ending);
        self.tell(Moment::End);
    }

    fn tell(&self, moment: Moment) {
        let inner = &self.journal.inner;
        if let Some(receipt) = &self.receipt {
            let observers = inner
                .observers
                .read()
                .unwrap_or_else(PoisonError::into_inner);
            for observer in observers.iter() {
                observer(receipt, moment);
            }
        }
        inner.changed.send_modify(|count| *count += 1);
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        if !self.ended {
            self.write(Ending::Stopped);
        }
    }
}
