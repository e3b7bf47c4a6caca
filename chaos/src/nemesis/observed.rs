//! Results of a strike, and limits that several faults share. No IO.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::plan::Condition;
use crate::system::Exit;

/// Longest time that a fault lasts beyond a lease, in milliseconds. A client waits longer.
pub const BEYOND_LEASE_MS_MAX: u64 = 2_500;
/// Longest duration of a fault of a receiver, in milliseconds.
pub const RECEIVER_FAULT_MS_MAX: u64 = 5_000;
/// Leases of one event that a fault of the database, or of the link to it, may end. Such a fault
/// lasts little longer than one lease, and an event that was claimed again may be hit once more.
pub(super) const OUTAGE_ABANDONS_MAX: u32 = 3;

/// The start of a fault, which the nemesis has recorded.
pub(super) struct Start {
    /// The trigger condition that held.
    pub(super) on: Condition,
    /// Time of the start, in microseconds of the history.
    pub(super) at_us: u64,
    /// Names of the requests that were open at the receivers, with the times of their begin.
    pub(super) open: BTreeMap<String, u64>,
}

/// The observed effect of a fault.
pub(super) struct Observed {
    /// Time by which the fault had taken effect, in microseconds of the history.
    pub(super) effective_us: u64,
    /// Requests that were open at the start, or began before the effect, and were ended by the fault.
    pub(super) hit: Vec<String>,
    /// Any other observation, in words. A fault without an observed effect does not count.
    pub(super) seen: Option<String>,
    /// Workers that the fault stopped.
    pub(super) stopped: Vec<Stopped>,
    /// How long the nemesis waits before the heal.
    pub(super) hold: Duration,
}

/// A worker that was asked to stop and has exited.
pub(super) struct Stopped {
    /// Name of the worker.
    pub(super) worker: String,
    /// Time of the request, in microseconds of the history.
    pub(super) asked_us: u64,
    /// Time of the exit, in microseconds of the history.
    pub(super) ended_us: u64,
    /// Exit status.
    pub(super) exit: Exit,
}

impl Observed {
    /// An effect that was seen by the harness and hit no request.
    pub(super) fn seen(effective_us: u64, seen: Option<String>) -> Self {
        Self { effective_us, hit: Vec::new(), seen, stopped: Vec::new(), hold: Duration::ZERO }
    }
}
