//! Faults with fixed parameters, for runs in which a drawn fault would not decide.

use crate::fault::{Kind, Link, Planned as _};
use crate::nemesis::{
    BlackHole, DeepBacklog, Fault, FewConnections, HoldHorizon, LogLoss, LoseLog, PlannedFault,
    ReadOnly, SlowLink,
};
use crate::plan::{Condition, Trigger};

/// When the fault may start, in milliseconds after the storm began. Events are under way by then.
const AT_MS: u64 = 1_000;
/// Duration of an outage, in milliseconds. `/readyz` must fail before its end.
const OUTAGE_MS: u64 = 12_000;
/// Time as a standby, in milliseconds. Each session is used within this time.
const READ_ONLY_MS: u64 = 1_500;
/// Time without a log, in milliseconds. Attempts end within this time.
const LOST_LOG_MS: u64 = 2_000;
/// Connections that are granted to the worker. A worker has its claims and eight posts at once.
const GRANTED: u32 = 3;
/// Time with few connections, in milliseconds.
const FEW_MS: u64 = 4_500;
/// Dead entries of the index of due events.
const DEAD_ENTRIES: i32 = 20_000;
/// Time for which they are kept, in milliseconds.
const HELD_MS: u64 = 4_500;
/// Rate of a slow link. One large payload takes a second.
const BYTES_PER_MS: u32 = 400;
/// Number of large events. Read in turn, they take longer than another event may wait.
const LARGE: u32 = 12;
/// Due events of one receiver. With all permits, they take longer than the fault.
const BACKLOG: i32 = 1_000;
/// Time until this receiver responds, in milliseconds.
const RESPONSE_MS: u64 = 200;
/// Time for which it has a backlog, in milliseconds.
const BACKLOG_MS: u64 = 4_000;

/// A fault that a run has once, in place of drawn ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exact {
    /// The link of the worker to its database swallows everything.
    Outage,
    /// The server is a standby for a while.
    ReadOnly,
    /// The server grants few connections.
    FewConnections,
    /// An open transaction keeps dead entries in the index of due events.
    HeldHorizon,
    /// The link of the worker to its database is slow, and large events are posted.
    SlowLink,
    /// One more receiver has thousands of due events.
    DeepBacklog,
    /// The log of the worker cannot be written.
    LostLog(LogLoss),
}

impl Exact {
    /// The kind of the fault.
    pub const fn kind(self) -> Kind {
        match self {
            Self::Outage => BlackHole::KIND,
            Self::ReadOnly => ReadOnly::KIND,
            Self::FewConnections => FewConnections::KIND,
            Self::HeldHorizon => HoldHorizon::KIND,
            Self::SlowLink => SlowLink::KIND,
            Self::DeepBacklog => DeepBacklog::KIND,
            Self::LostLog(_) => LoseLog::KIND,
        }
    }

    /// The fixed parameters in words, for `docs/checkers.md`.
    pub fn about(self) -> String {
        match self {
            Self::Outage => format!("of the link to its database for {OUTAGE_MS} ms"),
            Self::ReadOnly => format!("for {READ_ONLY_MS} ms"),
            Self::FewConnections => format!("with {GRANTED} connections for {FEW_MS} ms"),
            Self::HeldHorizon => format!("of {DEAD_ENTRIES} dead entries for {HELD_MS} ms"),
            Self::SlowLink => format!("with {LARGE} large events at {BYTES_PER_MS} bytes per ms"),
            Self::DeepBacklog => format!(
                "of {BACKLOG} events with responses after {RESPONSE_MS} ms for {BACKLOG_MS} ms"
            ),
            Self::LostLog(LogLoss::Stalled) => "with a reader that stalls".to_owned(),
            Self::LostLog(LogLoss::DiskFull) => "with a full disk".to_owned(),
            Self::LostLog(LogLoss::Closed) => "with a reader that exits".to_owned(),
        }
    }

    /// Time in which events are posted, in milliseconds. The fault takes effect within this time. On
    /// a loaded machine, the harness may need 10 s to take connections or to write dead entries.
    pub(super) const fn storm_ms(self) -> u64 {
        match self {
            Self::FewConnections | Self::HeldHorizon => 14_000,
            _ => 8_000,
        }
    }

    /// Returns true if it affects only workers with a database.
    pub(super) const fn needs_database(self) -> bool {
        !matches!(self, Self::LostLog(_))
    }

    /// Replaces the parameters of a drawn fault of the kind. Another fault is not changed.
    pub(super) fn fix(self, planned: &mut PlannedFault) {
        if planned.fault.kind() != self.kind() {
            return;
        }
        let on = match self {
            Self::ReadOnly => Condition::OpenRequests(1),
            _ => Condition::Time,
        };
        planned.trigger = Trigger { at_ms: AT_MS, on, ..planned.trigger };
        planned.fault = match (self, planned.fault.clone()) {
            // The numbers of its events are drawn.
            (_, Fault::SlowLink(drawn)) => {
                Fault::SlowLink(SlowLink { bytes_per_ms: BYTES_PER_MS, large: LARGE, ..drawn })
            }
            (_, drawn) => self.fault().unwrap_or(drawn),
        };
    }

    /// The fault, unless a part of it is drawn.
    fn fault(self) -> Option<Fault> {
        Some(match self {
            Self::Outage => {
                let link = Link::ToPostgres(0);
                Fault::BlackHole(BlackHole { link, for_ms: OUTAGE_MS, half_open: false })
            }
            Self::ReadOnly => Fault::ReadOnly(ReadOnly { for_ms: READ_ONLY_MS }),
            Self::FewConnections => {
                Fault::FewConnections(FewConnections { granted: GRANTED, for_ms: FEW_MS })
            }
            Self::HeldHorizon => {
                Fault::HoldHorizon(HoldHorizon { entries: DEAD_ENTRIES, for_ms: HELD_MS })
            }
            Self::DeepBacklog => Fault::DeepBacklog(DeepBacklog {
                events: BACKLOG,
                response_ms: RESPONSE_MS,
                for_ms: BACKLOG_MS,
            }),
            Self::SlowLink => return None,
            Self::LostLog(how) => Fault::LoseLog(LoseLog { worker: 0, how, for_ms: LOST_LOG_MS }),
        })
    }
}
