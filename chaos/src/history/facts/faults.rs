//! A fault from its request to its heal, and what kind of harm it may do.

use super::At;
use crate::history::op::{FaultEffect, FaultStart};

/// The name of the fault that kills a worker.
pub const WORKER_KILL: &str = "worker.kill";
/// The name of the fault that makes a worker stand still.
pub const WORKER_PAUSE: &str = "worker.pause";

/// The name of the fault that makes one attempt panic inside its worker.
pub const WORKER_PANIC: &str = "worker.panic";

/// What the names of faults begin with that may keep an attempt from being settled under its lease.
const MAY_ABANDON: &[&str] = &[
    WORKER_KILL,
    WORKER_PAUSE,
    WORKER_PANIC,
    "presence.",
    "store.",
    "clock.",
];

/// A fault, from its request to its heal.
#[derive(Clone, Copy, Debug)]
pub struct FaultFacts<'h> {
    /// Its request.
    pub start: At<'h, FaultStart>,
    /// Its effect, when one was observed.
    pub effect: Option<At<'h, FaultEffect>>,
    /// When it was healed, in microseconds.
    pub end_us: Option<u64>,
}

impl FaultFacts<'_> {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.start.op.f
    }

    /// True for a kill of a worker.
    #[must_use]
    pub fn is_kill(&self) -> bool {
        self.name() == WORKER_KILL
    }

    /// True for a kill that ended at least one open request.
    #[must_use]
    pub fn is_counted_kill(&self) -> bool {
        self.is_kill() && self.effect.is_some_and(|at| !at.op.hit.is_empty())
    }

    /// True when it may keep an attempt from being settled under its lease.
    #[must_use]
    pub fn may_abandon(&self) -> bool {
        MAY_ABANDON.iter().any(|kind| self.name().starts_with(kind))
    }

    /// True when it moves a clock.
    #[must_use]
    pub fn moves_a_clock(&self) -> bool {
        self.name().starts_with("clock.")
    }

    /// True when it may have hit this holder: by its name, where the fault tells holders.
    #[must_use]
    pub fn may_concern(&self, holder: &str) -> bool {
        let named = self.start.op.target.split_once('/');
        named.is_none_or(|(_, hit)| hit == holder)
    }

    /// When it had taken effect at the latest, in microseconds.
    #[must_use]
    pub fn effective_us(&self) -> u64 {
        self.effect.map_or(self.start.t, |at| at.op.effective_us)
    }

    /// True when it was under way, or its aftermath of `after_us`, at some time between the two.
    #[must_use]
    pub fn overlaps(&self, from_us: u64, to_us: u64, after_us: u64) -> bool {
        let end_us = self
            .end_us
            .map_or(u64::MAX, |end| end.saturating_add(after_us));
        self.start.t <= to_us && end_us >= from_us
    }
}
