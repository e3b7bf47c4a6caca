//! What the harness did to the system: workers started and stopped, faults from request to heal.

use serde::{Deserialize, Serialize};

use crate::fault::{Family, Harm, Kind, Target};
use crate::plan::Section;

/// A worker was started, or is ready.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerSeen {
    /// The worker, such as `w0`.
    pub worker: String,
    /// The section of the worker.
    pub section: Section,
    /// True if `/readyz` returned 200, false if the process was only started.
    pub ready: bool,
    /// Id of the process, if it can be seen from the harness. Older histories do not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
}

/// The response to `GET /readyz`. A response that is equal to the one before is not recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Readiness {
    /// The worker, such as `w0`.
    pub worker: String,
    /// Status of the response, or `None` if there was none in time.
    pub status: Option<u16>,
}

impl Readiness {
    /// Returns true if the worker reported that it is ready.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.status == Some(200)
    }
}

/// A worker logged at level WARN that the clock of the database differs from its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClockWarning {
    /// The worker, such as `w0`.
    pub worker: String,
    /// The line of its log.
    pub line: String,
}

/// The database sessions of the workers of a section. A count that is equal to the one before is
/// not recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sessions {
    /// The section.
    pub section: Section,
    /// Number of sessions, or `None` if the server did not answer in time.
    pub sessions: Option<u64>,
}

/// Resources of the process of a worker. A sample that differs by at most a tenth from the recorded
/// one before is not recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// The worker, such as `w0`.
    pub worker: String,
    /// Number of open file descriptors.
    pub descriptors: u64,
    /// Resident memory, in bytes.
    pub resident_bytes: u64,
}

/// A worker that was signalled to stop has exited.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerExit {
    /// The worker, such as `w0`.
    pub worker: String,
    /// Number of the fault that stopped it.
    pub fault: u64,
    /// When SIGTERM was sent, in microseconds of the harness's clock.
    pub asked_us: u64,
    /// When it had exited, in microseconds of the harness's clock.
    pub ended_us: u64,
    /// Exit code, if no signal ended the process.
    pub code: Option<i32>,
    /// The signal that ended the process.
    pub signal: Option<i32>,
    /// True if it was killed because it outlasted its grace.
    pub forced: bool,
}

/// Panics and ERROR lines in the log of a worker, read after the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerLog {
    /// The worker, such as `w0`.
    pub worker: String,
    /// Number of lines in the log.
    pub lines: u64,
    /// The first lines that report a panic.
    pub panics: Vec<String>,
    /// The first lines of level ERROR.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<String>,
}

/// A fault was requested.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FaultStart {
    /// Number of the fault: unique in the run.
    pub fault: u64,
    /// Name of its kind, such as `worker.kill`.
    pub f: String,
    /// Family of its kind.
    pub family: Family,
    /// The parts of the system to which it is done.
    pub target: Target,
    /// The harm of its kind that applies to this target.
    pub harm: Harm,
    /// The observation that started it.
    pub why: String,
    /// The requests that were open when it was requested.
    pub open: Vec<String>,
}

impl FaultStart {
    /// The start of a fault of this kind, with the harm that applies to the target; no request is
    /// open.
    #[must_use]
    pub fn new(fault: u64, kind: &Kind, target: Target) -> Self {
        Self {
            fault,
            f: kind.name.to_owned(),
            family: kind.family,
            harm: kind.harm.on(&target),
            target,
            why: String::new(),
            open: Vec::new(),
        }
    }
}

/// A fault took effect, or had none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FaultEffect {
    /// Number of the fault.
    pub fault: u64,
    /// When it had taken effect, in microseconds of the harness's clock.
    pub effective_us: u64,
    /// The requests that it ended: open at its start, or begun before it took effect.
    pub hit: Vec<String>,
    /// Another observed effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed: Option<String>,
}

/// A fault was healed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FaultEnd {
    /// Number of the fault.
    pub fault: u64,
}

/// A fault of the plan that was not applied.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FaultSkip {
    /// Name of its kind.
    pub f: String,
    /// The reason.
    pub why: String,
}
