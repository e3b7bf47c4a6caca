//! The parts of a schedule as plain data. No IO and no import of the crate.
//!
//! Schedules of both tiers are made of planned events. A planned fault has the fault type of its
//! tier as a parameter, so that a schedule does not depend on the code that injects faults.

use mock_receiver::Behavior;
use serde::{Deserialize, Serialize};

/// A part of the run with its own workers, database and settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Section {
    /// Scaled settings and faults.
    Main,
    /// The default settings of the dispatcher, scripted failures, no faults.
    Defaults,
}

/// One event of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedEvent {
    /// Number of the event, which is also the last part of its target path.
    pub ordinal: u64,
    /// The section in which it is posted.
    pub section: Section,
    /// When it is posted, in milliseconds after the baseline began, or after the storm began if
    /// there is no baseline.
    pub at_ms: u64,
    /// The receiver that is its target, from 0.
    pub receiver: u32,
    /// Its idempotency key.
    pub key: Option<String>,
    /// True if it is posted again under its key after its 202.
    pub repeated: bool,
    /// The exact JSON text of its payload.
    pub payload: String,
    /// Behavior of the receiver for attempt 1, 2, …; later attempts get 200.
    pub script: Vec<Behavior>,
    /// The reason for which it must become dead. If absent, it must be delivered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dies: Option<String>,
}

/// One fault of a plan, with the time and the condition of its start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedFault<F> {
    /// When it may start.
    pub trigger: Trigger,
    /// The fault and its parameters.
    pub fault: F,
}

/// When a fault starts: at a time, and then when a condition holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trigger {
    /// Lower bound of the start, in milliseconds after the storm began. An earlier fault may delay
    /// it.
    pub at_ms: u64,
    /// The condition that must hold after that time.
    pub on: Condition,
    /// How long the condition is awaited, in milliseconds. After that the fault is skipped.
    pub within_ms: u64,
}

/// A trigger condition: the observation that starts a fault. Workers are counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// None but the time.
    Time,
    /// At least this many requests are open at the receivers.
    OpenRequests(u32),
    /// A receiver gets a request of this attempt.
    RequestReceived(u32),
    /// A receiver ends a request of this attempt.
    AnswerSent(u32),
    /// A claim of this worker is committed, and its reply has not been passed on.
    ClaimCommitted(u32),
    /// This worker sends a settle.
    SettleSent(u32),
}

impl Condition {
    /// Returns true if it is observed on a link, so that the run needs proxies.
    #[must_use]
    pub const fn is_on_a_link(self) -> bool {
        matches!(self, Self::ClaimCommitted(_) | Self::SettleSent(_))
    }
}
