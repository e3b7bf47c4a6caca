//! The faults of the simulation as plain data.
//!
//! A fault strikes at a time, or at the n-th hit of a failpoint. Every await of the dispatcher is a
//! failpoint. `world` injects the faults.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::kinds::{
    CLOCK_DRIFT, CLOCK_STEP, PRESENCE_CUT, RESPONSE_LOST, STORE_CUT, STORE_ERROR, STORE_SLOW,
    WORKER_PANIC, WORKER_SHORT,
};
use crate::fault::{Kind, Planned};
use crate::nemesis;

/// A call of a worker to the store or the transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// Inserts an event, for a client of the API.
    Insert,
    /// Waits for the presence of the worker.
    Present,
    /// Claims due events.
    Claim,
    /// Reads the next due time.
    NextDue,
    /// Makes one attempt.
    Attempt,
    /// Settles a batch.
    Settle,
    /// Releases claims.
    Release,
    /// Reads the workers without presence.
    Absent,
    /// Reclaims leases.
    Reclaim,
    /// Deletes the row of a worker.
    Forget,
}

/// The progress of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The worker is about to send the call.
    Sent,
    /// The store has committed, or the request has arrived. The reply has not been sent.
    Applied,
    /// The reply has been sent. The worker has not received it.
    Replied,
}

/// A call at a stage, where a fault may strike. Its text form is `claim.applied`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Point {
    /// The call.
    pub call: Call,
    /// The stage of the call.
    pub stage: Stage,
}

/// Every call with its name in schedules.
pub const CALLS: &[(Call, &str)] = &[
    (Call::Insert, "insert"),
    (Call::Present, "present"),
    (Call::Claim, "claim"),
    (Call::NextDue, "next_due"),
    (Call::Attempt, "attempt"),
    (Call::Settle, "settle"),
    (Call::Release, "release"),
    (Call::Absent, "absent"),
    (Call::Reclaim, "reclaim"),
    (Call::Forget, "forget"),
];

/// Every stage with its name in schedules, in order.
pub const STAGES: &[(Stage, &str)] = &[
    (Stage::Sent, "sent"),
    (Stage::Applied, "applied"),
    (Stage::Replied, "replied"),
];

/// One fault of a schedule of the simulation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedFault {
    /// When it strikes.
    pub on: When,
    /// The fault and its parameters.
    #[serde(flatten)]
    pub fault: Fault,
}

/// When a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// At a time after the storm began, at one worker.
    At {
        /// Virtual time, in milliseconds.
        ms: u64,
        /// The worker, from 0, if the fault is done to one.
        worker: u32,
    },
    /// At the n-th hit of a failpoint, at the worker that hits it.
    Pass {
        /// The failpoint.
        point: Point,
        /// Number of the hit, from 1.
        nth: u32,
    },
}

/// A fault with its parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "f")]
pub enum Fault {
    /// SIGKILL of a worker, and its restart.
    #[serde(rename = "worker.kill")]
    Kill {
        /// Milliseconds until the restart.
        down_ms: u64,
    },
    /// A worker is paused and resumes.
    #[serde(rename = "worker.pause")]
    Pause {
        /// Milliseconds.
        for_ms: u64,
    },
    /// SIGTERM of a worker, and its restart.
    #[serde(rename = "worker.terminate")]
    Stop {
        /// Milliseconds from the exit to the restart.
        down_ms: u64,
    },
    /// An attempt panics inside its worker.
    #[serde(rename = "worker.panic")]
    Panic,
    /// Local exhaustion: a worker has no socket, or no port for one receiver, so that attempts
    /// fail.
    #[serde(rename = "worker.short")]
    Short {
        /// The receiver, from 0. Absent if it affects every receiver.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        receiver: Option<u32>,
        /// Milliseconds.
        for_ms: u64,
    },
    /// The presence connection of a running worker is cut, so that other workers see no lock.
    #[serde(rename = "presence.cut")]
    PresenceCut {
        /// Milliseconds until the lock is held again.
        for_ms: u64,
    },
    /// A call to the store fails, before or after its commit, as its stage states.
    #[serde(rename = "store.error")]
    StoreError,
    /// A call, or its reply, is late. It times out if the delay exceeds the deadline of the client.
    #[serde(rename = "store.slow")]
    StoreSlow {
        /// Milliseconds.
        by_ms: u64,
    },
    /// The connections of a worker to the database are cut, and new ones fail for a time.
    #[serde(rename = "store.cut")]
    StoreCut {
        /// Milliseconds.
        for_ms: u64,
    },
    /// The database crashes and recovers. Committed rows stay.
    #[serde(rename = "postgres.kill")]
    StoreDown {
        /// Milliseconds.
        for_ms: u64,
    },
    /// The clock of the database jumps, and later jumps back.
    #[serde(rename = "clock.step")]
    ClockStep {
        /// Milliseconds. A negative value jumps into the past.
        by_ms: i64,
        /// Milliseconds until it jumps back.
        for_ms: u64,
    },
    /// The clock of the database runs at another rate.
    #[serde(rename = "clock.drift")]
    ClockDrift {
        /// Difference of the rate in thousandths. A positive value is faster.
        per_mille: i64,
        /// Milliseconds until the clock is correct again.
        for_ms: u64,
    },
    /// A receiver refuses connections.
    #[serde(rename = "receiver.refuse")]
    Refuse {
        /// The receiver, from 0.
        receiver: u32,
        /// Milliseconds.
        for_ms: u64,
    },
    /// A response is written by the receiver and lost.
    #[serde(rename = "response.lost")]
    ResponseLost,
}

// A kind that the real tier has, too, is the same value.
impl Planned for Fault {
    const KINDS: &'static [Kind] = &[
        nemesis::KillWorker::KIND,
        nemesis::PauseWorker::KIND,
        nemesis::TerminateWorker::KIND,
        WORKER_PANIC,
        WORKER_SHORT,
        PRESENCE_CUT,
        STORE_ERROR,
        STORE_SLOW,
        STORE_CUT,
        nemesis::KillPostgres::KIND,
        CLOCK_STEP,
        CLOCK_DRIFT,
        nemesis::RefuseReceiver::KIND,
        RESPONSE_LOST,
    ];

    fn kind(&self) -> Kind {
        match self {
            Fault::Kill { .. } => nemesis::KillWorker::KIND,
            Fault::Pause { .. } => nemesis::PauseWorker::KIND,
            Fault::Stop { .. } => nemesis::TerminateWorker::KIND,
            Fault::StoreDown { .. } => nemesis::KillPostgres::KIND,
            Fault::Refuse { .. } => nemesis::RefuseReceiver::KIND,
            Fault::Panic => WORKER_PANIC,
            Fault::Short { .. } => WORKER_SHORT,
            Fault::PresenceCut { .. } => PRESENCE_CUT,
            Fault::StoreError => STORE_ERROR,
            Fault::StoreSlow { .. } => STORE_SLOW,
            Fault::StoreCut { .. } => STORE_CUT,
            Fault::ClockStep { .. } => CLOCK_STEP,
            Fault::ClockDrift { .. } => CLOCK_DRIFT,
            Fault::ResponseLost => RESPONSE_LOST,
        }
    }
}

impl Fault {
    /// The time until the heal, in milliseconds. Absent if the restart of the worker ends the
    /// fault.
    #[must_use]
    pub const fn lasts_ms(&self) -> Option<u64> {
        match self {
            Fault::Kill { .. } | Fault::Stop { .. } => None,
            Fault::Panic | Fault::StoreError | Fault::ResponseLost => Some(0),
            Fault::StoreSlow { by_ms } => Some(*by_ms),
            Fault::Pause { for_ms }
            | Fault::Short { for_ms, .. }
            | Fault::PresenceCut { for_ms }
            | Fault::StoreCut { for_ms }
            | Fault::StoreDown { for_ms }
            | Fault::ClockStep { for_ms, .. }
            | Fault::ClockDrift { for_ms, .. }
            | Fault::Refuse { for_ms, .. } => Some(*for_ms),
        }
    }
}

impl Call {
    /// Name of the call in schedules.
    #[must_use]
    pub fn name(self) -> &'static str {
        let found = CALLS.iter().find(|(call, _)| *call == self);
        found.map_or("", |(_, name)| name)
    }

    /// The failpoint of this call at a stage.
    #[must_use]
    pub const fn at(self, stage: Stage) -> Point {
        Point { call: self, stage }
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = STAGES.iter().find(|(stage, _)| *stage == self.stage);
        write!(f, "{}.{}", self.call.name(), stage.map_or("", |(_, s)| s))
    }
}

/// A text that is not a failpoint.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not a failpoint: expected a name such as claim.applied")]
pub struct PointError(String);

impl FromStr for Point {
    type Err = PointError;

    fn from_str(text: &str) -> Result<Point, PointError> {
        let parse = || {
            let (call, stage) = text.split_once('.')?;
            let call = CALLS.iter().find(|(_, name)| *name == call)?.0;
            let stage = STAGES.iter().find(|(_, name)| *name == stage)?.0;
            Some(call.at(stage))
        };
        parse().ok_or_else(|| PointError(text.to_owned()))
    }
}

impl TryFrom<String> for Point {
    type Error = PointError;

    fn try_from(text: String) -> Result<Point, PointError> {
        text.parse()
    }
}

impl From<Point> for String {
    fn from(point: Point) -> String {
        point.to_string()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn every_failpoint_reads_back_from_its_name() {
        for (call, _) in CALLS {
            for (stage, _) in STAGES {
                let point = call.at(*stage);
                assert_eq!(point.to_string().parse::<Point>().unwrap(), point);
            }
        }
        assert!("claim".parse::<Point>().is_err());
        assert!("claim.lost".parse::<Point>().is_err());
    }

    // The real tier and the simulation must use one value for one kind.
    #[test]
    fn kind_with_a_name_of_the_real_tier_is_the_kind_of_the_real_tier() {
        let shared = Fault::KINDS
            .iter()
            .filter(|kind| nemesis::kind(kind.name).is_some());
        assert_eq!(shared.clone().count(), 5);
        for kind in shared {
            assert_eq!(Some(kind), nemesis::kind(kind.name));
        }
    }

    #[test]
    fn planned_fault_is_one_line_of_json() {
        let fault = PlannedFault {
            on: When::Pass {
                point: Call::Claim.at(Stage::Applied),
                nth: 2,
            },
            fault: Fault::Kill { down_ms: 100 },
        };
        let text = serde_json::to_string(&fault).unwrap();
        assert_eq!(
            text,
            r#"{"on":{"pass":{"point":"claim.applied","nth":2}},"f":"worker.kill","down_ms":100}"#
        );
        assert_eq!(serde_json::from_str::<PlannedFault>(&text).unwrap(), fault);
    }
}
