//! The committed transitions of each event, as the store itself tells them.

use super::{At, Entry, at};
use crate::history::op::Op;
use crate::history::transition::{Census, Fenced, Step, Transition};

/// One transition with its kind, place and time.
pub type StepAt<'h> = (Step, At<'h, Transition>);

/// Everything that the store committed of one event.
#[derive(Clone, Debug, Default)]
pub struct RowFacts<'h> {
    /// The ordinal in its target, when it has one.
    pub ordinal: Option<u64>,
    /// Every transition, in the order of the commits.
    pub steps: Vec<StepAt<'h>>,
}

impl<'h> RowFacts<'h> {
    /// The transitions in pairs: each with the one before it.
    pub fn pairs(&self) -> impl Iterator<Item = (&StepAt<'h>, &StepAt<'h>)> {
        self.steps.iter().zip(self.steps.iter().skip(1))
    }

    /// True when the lease of this attempt was ended before its time: its holder was taken for gone.
    #[must_use]
    pub fn was_taken_early(&self, attempt: Option<u32>) -> bool {
        let mut steps = self.steps.iter();
        steps.any(|(step, at)| {
            *step == Step::Reclaim && Some(at.op.attempt) == attempt && at.op.is_early()
        })
    }

    /// The newest transition.
    #[must_use]
    pub fn last(&self) -> Option<&StepAt<'h>> {
        self.steps.last()
    }
}

/// What the store committed, beside the events themselves.
#[derive(Clone, Debug, Default)]
pub struct StoreFacts<'h> {
    /// Settles and releases that changed nothing.
    pub fenced: Vec<At<'h, Fenced>>,
    /// Counts of all rows, each with what the transitions before it add up to.
    pub censuses: Vec<(At<'h, Census>, u64)>,
    /// Events accepted so far.
    accepted: u64,
}

impl<'h> StoreFacts<'h> {
    pub(super) fn take(&mut self, entry: &'h Entry) {
        match &entry.op {
            Op::Accept(_) => self.accepted += 1,
            Op::Fenced(op) => self.fenced.push(at(entry, op)),
            Op::Census(op) => self.censuses.push((at(entry, op), self.accepted)),
            _ => {}
        }
    }
}

/// The ordinal that a target carries as the last part of its path.
pub(super) fn ordinal_of(target: &str) -> Option<u64> {
    target.rsplit('/').next()?.parse().ok()
}
