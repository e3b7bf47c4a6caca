//! An op at its place in the history, and the ops of one request at a receiver.

use crate::history::Entry;
use crate::history::op::{RecvBegin, RecvEnd, SIG_VALID};

/// An op with its line and time.
#[derive(Debug)]
pub struct At<'h, T> {
    /// Line number.
    pub seq: u64,
    /// Time in microseconds.
    pub t: u64,
    /// The op.
    pub op: &'h T,
}

// Not derived, because a derive would require that the op implements `Copy`.
impl<T> Clone for At<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for At<'_, T> {}

/// A request at a receiver, from its begin to its end.
#[derive(Clone, Copy, Debug)]
pub struct ReceiptFacts<'h> {
    /// The begin.
    pub begin: At<'h, RecvBegin>,
    /// The end, if the receiver recorded one.
    pub end: Option<At<'h, RecvEnd>>,
}

impl ReceiptFacts<'_> {
    /// Returns true if a complete 2xx was written.
    pub fn is_success(&self) -> bool {
        self.end.is_some_and(|end| end.op.is_success())
    }

    /// Returns the time of the end, or the maximum if none was recorded.
    pub fn end_us(&self) -> u64 {
        self.end.map_or(u64::MAX, |end| end.t)
    }

    /// Returns true if the signature is valid.
    pub fn is_signed(&self) -> bool {
        self.begin.op.sig == SIG_VALID
    }
}

/// Places an op at its line.
pub(super) fn at<'h, T>(entry: &Entry, op: &'h T) -> At<'h, T> {
    At { seq: entry.seq, t: entry.t, op }
}
