//! Faults with fixed parameters, for runs in which a drawn fault would not decide.

use crate::fault::{Kind, Link, Planned as _};
use crate::nemesis::{BlackHole, Fault, LogLoss, LoseLog, PlannedFault, ReadOnly};
use crate::plan::{Condition, Trigger};

/// When the fault may start, in milliseconds after the storm began. Events are under way by then.
const AT_MS: u64 = 1_000;
/// Duration of an outage, in milliseconds. `/readyz` must fail before its end.
const OUTAGE_MS: u64 = 12_000;
/// Time as a standby, in milliseconds. Each session is used within this time.
const READ_ONLY_MS: u64 = 1_500;
/// Time without a log, in milliseconds. Attempts end within this time.
const LOST_LOG_MS: u64 = 2_000;

/// A fault that a run has once, in place of drawn ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exact {
    /// The link of the worker to its database swallows everything.
    Outage,
    /// The server is a standby for a while.
    ReadOnly,
    /// The log of the worker cannot be written.
    LostLog(LogLoss),
}

impl Exact {
    /// The kind of the fault.
    pub const fn kind(self) -> Kind {
        match self {
            Self::Outage => BlackHole::KIND,
            Self::ReadOnly => ReadOnly::KIND,
            Self::LostLog(_) => LoseLog::KIND,
        }
    }

    /// The fixed parameters in words, for `docs/checkers.md`.
    pub fn about(self) -> String {
        match self {
            Self::Outage => format!("of the link to its database for {OUTAGE_MS} ms"),
            Self::ReadOnly => format!("for {READ_ONLY_MS} ms"),
            Self::LostLog(LogLoss::Stalled) => "with a reader that stalls".to_owned(),
            Self::LostLog(LogLoss::DiskFull) => "with a full disk".to_owned(),
            Self::LostLog(LogLoss::Closed) => "with a reader that exits".to_owned(),
        }
    }

    /// Replaces the parameters of a drawn fault of the kind. Another fault is not changed.
    pub(super) fn fix(self, planned: &mut PlannedFault) {
        if planned.fault.kind() != self.kind() {
            return;
        }
        let on = match self {
            Self::ReadOnly => Condition::OpenRequests(1),
            Self::Outage | Self::LostLog(_) => Condition::Time,
        };
        planned.trigger = Trigger { at_ms: AT_MS, on, ..planned.trigger };
        planned.fault = match self {
            Self::Outage => {
                let link = Link::ToPostgres(0);
                Fault::BlackHole(BlackHole { link, for_ms: OUTAGE_MS, half_open: false })
            }
            Self::ReadOnly => Fault::ReadOnly(ReadOnly { for_ms: READ_ONLY_MS }),
            Self::LostLog(how) => Fault::LoseLog(LoseLog { worker: 0, how, for_ms: LOST_LOG_MS }),
        };
    }
}
