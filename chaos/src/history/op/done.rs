//! What the harness did to the system: workers started and stopped, faults from request to heal.

use serde::{Deserialize, Serialize};

use crate::fault::{Family, Harm, Kind, Target};
use crate::plan::Section;

/// A worker was started, or is ready.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerSeen {
    /// Its name.
    pub worker: String,
    /// Where it belongs.
    pub section: Section,
    /// True once it answered that it is ready.
    pub ready: bool,
}

/// A worker that was asked to stop has ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerExit {
    /// Its name.
    pub worker: String,
    /// Number of the fault that asked it to.
    pub fault: u64,
    /// When it was asked, in microseconds of the harness's clock.
    pub asked_us: u64,
    /// When it had exited, in microseconds of the harness's clock.
    pub ended_us: u64,
    /// Its exit code, if it ended by itself.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// True when it was killed because its grace was over.
    pub forced: bool,
}

/// What a worker's log holds that it must not, read when the run was over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerLog {
    /// Its name.
    pub worker: String,
    /// Lines of its log.
    pub lines: u64,
    /// The first lines that tell of a panic.
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
    /// Why now.
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
    /// The open requests that ended by it.
    pub hit: Vec<String>,
    /// What else was seen of it.
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
    /// Its name.
    pub f: String,
    /// Why not.
    pub why: String,
}
