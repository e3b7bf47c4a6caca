//! The faults of the simulation as plain data.
//!
//! A fault strikes at a time, or at the n-th hit of a failpoint. Every await of the dispatcher is a
//! failpoint. `world` injects the faults.

use serde::{Deserialize, Serialize};

use super::kinds::{
    CLOCK_DRIFT, CLOCK_STEP, PRESENCE_CUT, RESPONSE_LOST, STORE_CUT, STORE_ERROR, STORE_REFUSE,
    STORE_SLOW, WORKER_PANIC, WORKER_SHORT,
};
use crate::fault::{Kind, Planned};
use crate::nemesis;
use crate::sim::failpoint::Failpoint;

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
        point: Failpoint,
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
    /// Constraints of an operator refuse a third of all new events, and each settled attempt that has
    /// an error text, until the end of the run.
    #[serde(rename = "store.refuse")]
    StoreRefuse,
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
    /// The first receivers take every request and answer none.
    #[serde(rename = "receiver.hang_most")]
    Hang {
        /// Number of receivers.
        receivers: u32,
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
        STORE_REFUSE,
        STORE_CUT,
        nemesis::KillPostgres::KIND,
        CLOCK_STEP,
        CLOCK_DRIFT,
        nemesis::RefuseReceiver::KIND,
        nemesis::HangMost::KIND,
        RESPONSE_LOST,
    ];

    fn kind(&self) -> Kind {
        match self {
            Fault::Kill { .. } => nemesis::KillWorker::KIND,
            Fault::Pause { .. } => nemesis::PauseWorker::KIND,
            Fault::Stop { .. } => nemesis::TerminateWorker::KIND,
            Fault::StoreDown { .. } => nemesis::KillPostgres::KIND,
            Fault::Refuse { .. } => nemesis::RefuseReceiver::KIND,
            Fault::Hang { .. } => nemesis::HangMost::KIND,
            Fault::Panic => WORKER_PANIC,
            Fault::Short { .. } => WORKER_SHORT,
            Fault::PresenceCut { .. } => PRESENCE_CUT,
            Fault::StoreError => STORE_ERROR,
            Fault::StoreSlow { .. } => STORE_SLOW,
            Fault::StoreRefuse => STORE_REFUSE,
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
            Fault::Panic | Fault::StoreError | Fault::StoreRefuse | Fault::ResponseLost => Some(0),
            Fault::StoreSlow { by_ms } => Some(*by_ms),
            Fault::Pause { for_ms }
            | Fault::Short { for_ms, .. }
            | Fault::PresenceCut { for_ms }
            | Fault::StoreCut { for_ms }
            | Fault::StoreDown { for_ms }
            | Fault::ClockStep { for_ms, .. }
            | Fault::ClockDrift { for_ms, .. }
            | Fault::Refuse { for_ms, .. }
            | Fault::Hang { for_ms, .. } => Some(*for_ms),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::sim::failpoint::{Call, Stage};

    // The real tier and the simulation must use one value for one kind.
    #[test]
    fn kind_with_a_name_of_the_real_tier_is_the_kind_of_the_real_tier() {
        let shared = Fault::KINDS.iter().filter(|kind| nemesis::kind(kind.name).is_some());
        assert_eq!(shared.clone().count(), 6);
        for kind in shared {
            assert_eq!(Some(kind), nemesis::kind(kind.name));
        }
    }

    #[test]
    fn planned_fault_is_one_line_of_json() {
        let fault = PlannedFault {
            on: When::Pass { point: Call::Claim.at(Stage::Applied), nth: 2 },
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
