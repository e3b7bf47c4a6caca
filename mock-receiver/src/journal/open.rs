//! A request between its begin and its end.

use super::receipt::{Moment, Receipt};
use crate::check::SignatureCheck;
use crate::ending::Ending;
use crate::journal::Journal;

/// A request that has begun. If it is dropped without an ending, it ends as [`Ending::Stopped`].
pub(crate) struct OpenRequest {
    journal: Journal,
    valid: bool,
    receipt: Option<Receipt>,
    ended: bool,
}

impl OpenRequest {
    /// Counts a request and adds its receipt to the journal, which sets `seq` and `begin_us`.
    /// `receipt` is not called if the journal keeps no receipts.
    pub(crate) fn begin(
        journal: &Journal,
        signature: &SignatureCheck,
        receipt: impl FnOnce() -> Receipt,
    ) -> Self {
        let open = Self {
            journal: journal.clone(),
            valid: signature.is_valid(),
            receipt: journal.record_begin(signature, receipt),
            ended: false,
        };
        open.notify(Moment::Begin);
        open
    }

    /// Ends the request. Returns its receipt if the journal keeps receipts.
    pub(crate) fn end(mut self, ending: Ending) -> Option<Receipt> {
        self.write(ending);
        self.receipt.take()
    }

    fn write(&mut self, ending: Ending) {
        self.ended = true;
        if let Some(receipt) = &mut self.receipt {
            receipt.end_us = Some(self.journal.now_us());
            receipt.ending = Some(ending.clone());
            self.journal.write_ending(receipt);
        }
        // The count follows the write. A reader that sees no open request therefore sees every
        // ending.
        self.journal.count_end(self.valid, &ending);
        self.notify(Moment::End);
    }

    fn notify(&self, moment: Moment) {
        self.journal.notify(self.receipt.as_ref(), moment);
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        if !self.ended {
            self.write(Ending::Stopped);
        }
    }
}
