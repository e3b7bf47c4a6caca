//! The transitions that the store committed, by event.

use super::receipt::{At, at};
use crate::history::Entry;
use crate::history::op::Op;
use crate::history::transition::{Census, Fenced, Step, Transition};

/// One transition with its kind, place and time.
pub type StepAt<'h> = (Step, At<'h, Transition>);

/// The transitions of one event.
#[derive(Clone, Debug, Default)]
pub struct RowFacts<'h> {
    /// Ordinal of the event, from its acknowledgement or else from its target.
    pub ordinal: Option<u64>,
    /// Every transition, in the order of the commits.
    pub steps: Vec<StepAt<'h>>,
}

impl<'h> RowFacts<'h> {
    /// The transitions in pairs: each with the one before it.
    pub fn pairs(&self) -> impl Iterator<Item = (&StepAt<'h>, &StepAt<'h>)> {
        self.steps.iter().zip(self.steps.iter().skip(1))
    }

    /// Returns true if the lease of this attempt was reclaimed before it expired.
    pub fn was_taken_early(&self, attempt: Option<u32>) -> bool {
        let mut steps = self.steps.iter();
        steps.any(|(step, at)| {
            *step == Step::Reclaim && Some(at.op.attempt) == attempt && at.op.is_early()
        })
    }

    /// The last transition.
    pub fn last(&self) -> Option<&StepAt<'h>> {
        self.steps.last()
    }
}

/// Observations of the store that are not transitions.
#[derive(Clone, Debug, Default)]
pub struct StoreFacts<'h> {
    /// Refused settles and releases.
    pub fenced: Vec<At<'h, Fenced>>,
    /// Counts of all rows, each with the number of accepted events so far.
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

/// Returns the ordinal in the last part of a target's path.
pub(super) fn ordinal_of(target: &str) -> Option<u64> {
    target.rsplit('/').next()?.parse().ok()
}
