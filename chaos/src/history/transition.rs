//! Transitions that the store committed: one op per transition of an event, in commit order.
//!
//! They are written inside the transaction that makes the transition: by an audit trigger in
//! Postgres, by the model in the simulation. No report of the dispatcher is used.

use serde::{Deserialize, Serialize};

/// A transition of the accounting table in `docs/state-machine.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// An event was stored.
    Accept,
    /// An attempt was assigned to a worker under a lease.
    Claim,
    /// The outcome of an attempt was written.
    Settle,
    /// A claim was returned without an attempt.
    Release,
    /// A lease was ended by another worker.
    Reclaim,
    /// An operator ended the event.
    Cancel,
    /// An operator started a new round.
    Replay,
}

/// One committed transition of one event.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Transition {
    /// Id of the event.
    pub id: String,
    /// Target of the event; only in `accept`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Number of the attempt that begins or ends, or 0.
    #[serde(default)]
    pub attempt: u32,
    /// Lease token that the statement used; in a claim, the new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// Lease token of the row before the transition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<String>,
    /// Worker id of the worker that holds, or held, the lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<String>,
    /// Outcome of the attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// Database clock in the transaction, in microseconds of Unix time.
    pub now_us: i64,
    /// End of the lease on the database clock, in microseconds of Unix time; in a reclaim, of the
    /// lease that was ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_until_us: Option<i64>,
    /// Due time of a pending event on the database clock, in microseconds of Unix time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_us: Option<i64>,
    /// The row after the transition.
    pub after: Counts,
}

/// State and counters of a row.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// `pending`, `delivered` or `dead`.
    pub status: String,
    /// Reason of a dead event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Claims minus releases.
    pub attempt_count: u32,
    /// Settled failures in this round.
    pub failure_count: u32,
    /// Consecutive reclaims.
    pub abandon_count: u32,
    /// Number of replays.
    pub round: u32,
}

impl Transition {
    /// Returns true for a reclaim before the lease expired.
    pub fn is_early(&self) -> bool {
        self.lease_until_us.is_some_and(|until| self.now_us < until)
    }
}

impl Counts {
    /// Returns true if the event is delivered or dead.
    pub fn is_final(&self) -> bool {
        self.status != "pending"
    }
}

/// A settle or release with a stale token. It changed no row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fenced {
    /// Id of the event.
    pub id: String,
    /// Token of the statement.
    pub token: String,
    /// True if the row shows that the same settle was committed before.
    pub already: bool,
}

/// Number of rows per state, counted in one snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Census {
    /// All rows.
    pub rows: u64,
    /// Pending rows without a lease.
    pub pending: u64,
    /// Pending rows with a lease.
    pub leased: u64,
    /// Delivered rows.
    pub delivered: u64,
    /// Dead rows.
    pub dead: u64,
}

impl Step {
    /// Returns true for a transition that ends a lease.
    pub const fn ends_a_lease(self) -> bool {
        matches!(self, Step::Settle | Step::Release | Step::Reclaim | Step::Cancel)
    }
}
