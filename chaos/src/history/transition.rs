//! What the store itself committed: one op a transition of an event, in the order of the commits.
//!
//! Taken inside the transaction that makes the transition: from the model in the simulation, from an
//! audit trigger in Postgres. No word of the dispatcher's own is in them.

use serde::{Deserialize, Serialize};

use super::op::Op;

/// Which transition of the accounting table it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// An event was stored.
    Accept,
    /// It was leased; an attempt began.
    Claim,
    /// The end of an attempt was written.
    Settle,
    /// A claim was handed back unsent.
    Release,
    /// A lease was ended without its holder.
    Reclaim,
    /// An operator ended the event.
    Cancel,
    /// An operator began a new round.
    Replay,
}

/// One committed transition of one event.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Transition {
    /// The event.
    pub id: String,
    /// Where it goes; told when it is accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The number of the attempt that begins or ends; 0 where there is none.
    #[serde(default)]
    pub attempt: u32,
    /// The lease token that the writer showed; of a claim, the new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// The lease token that the row held before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<String>,
    /// Who holds, or held, the lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<String>,
    /// How the attempt ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// The database's clock in the transaction, in microseconds of Unix time.
    pub now_us: i64,
    /// Until when the lease lasts, on the database's clock, in microseconds; of a reclaim, the lease
    /// that was ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_until_us: Option<i64>,
    /// When a pending event is due, on the database's clock, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_us: Option<i64>,
    /// The row afterwards.
    pub after: Counts,
}

/// What the accounting table counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// `pending`, `delivered` or `dead`.
    pub status: String,
    /// Why it is dead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Attempts begun and not released.
    pub attempt_count: u32,
    /// Settled failures of this round.
    pub failure_count: u32,
    /// Abandonments in a row.
    pub abandon_count: u32,
    /// Grows with each replay.
    pub round: u32,
}

impl Transition {
    /// True of a reclaim that did not wait for the lease to run out: the holder was taken for gone.
    #[must_use]
    pub fn is_early(&self) -> bool {
        self.lease_until_us.is_some_and(|until| self.now_us < until)
    }
}

impl Counts {
    /// True when nothing more may happen to the event in this round.
    #[must_use]
    pub fn is_final(&self) -> bool {
        self.status != "pending"
    }
}

/// A settle or release that showed another token than the row held: it changed nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fenced {
    /// The event.
    pub id: String,
    /// The token that was shown.
    pub token: String,
    /// True when the row shows that this very settle was written before.
    pub already: bool,
}

/// How many rows there are in which state, counted in one snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Census {
    /// All of them.
    pub rows: u64,
    /// Pending without a lease.
    pub pending: u64,
    /// Pending under a lease.
    pub leased: u64,
    /// Delivered.
    pub delivered: u64,
    /// Dead.
    pub dead: u64,
}

impl Step {
    /// The transition of an op, if it is one.
    #[must_use]
    pub const fn of(op: &Op) -> Option<(Step, &Transition)> {
        Some(match op {
            Op::Accept(transition) => (Step::Accept, transition),
            Op::Claim(transition) => (Step::Claim, transition),
            Op::Settle(transition) => (Step::Settle, transition),
            Op::Release(transition) => (Step::Release, transition),
            Op::Reclaim(transition) => (Step::Reclaim, transition),
            Op::Cancel(transition) => (Step::Cancel, transition),
            Op::Replay(transition) => (Step::Replay, transition),
            _ => return None,
        })
    }

    /// The op that says so.
    #[must_use]
    pub const fn op(self, transition: Transition) -> Op {
        match self {
            Step::Accept => Op::Accept(transition),
            Step::Claim => Op::Claim(transition),
            Step::Settle => Op::Settle(transition),
            Step::Release => Op::Release(transition),
            Step::Reclaim => Op::Reclaim(transition),
            Step::Cancel => Op::Cancel(transition),
            Step::Replay => Op::Replay(transition),
        }
    }

    /// True when it ends a lease.
    #[must_use]
    pub const fn ends_a_lease(self) -> bool {
        matches!(
            self,
            Step::Settle | Step::Release | Step::Reclaim | Step::Cancel
        )
    }
}
