//! Failpoints: the calls of a worker at their stages. Every await of the dispatcher is one.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

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
    /// Reads the leases of the worker, to find orphaned claims.
    OwnLeases,
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
pub struct Failpoint {
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
    (Call::OwnLeases, "own_leases"),
    (Call::Absent, "absent"),
    (Call::Reclaim, "reclaim"),
    (Call::Forget, "forget"),
];

/// Every stage with its name in schedules, in order.
pub const STAGES: &[(Stage, &str)] =
    &[(Stage::Sent, "sent"), (Stage::Applied, "applied"), (Stage::Replied, "replied")];

/// One pass of a call through a failpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailpointHit {
    /// The failpoint.
    pub failpoint: Failpoint,
    /// Number of this hit, from 1, over all workers.
    pub nth: u32,
    /// True if a fault struck at this hit.
    pub struck: bool,
}

impl Call {
    /// Returns true if the call can give events a lease.
    pub(super) fn makes_leases(self) -> bool {
        matches!(self, Self::Claim | Self::Insert)
    }

    /// Name of the call in schedules.
    #[must_use]
    pub fn name(self) -> &'static str {
        let found = CALLS.iter().find(|(call, _)| *call == self);
        found.map_or("", |(_, name)| name)
    }

    /// The failpoint of this call at a stage.
    #[must_use]
    pub const fn at(self, stage: Stage) -> Failpoint {
        Failpoint { call: self, stage }
    }
}

impl fmt::Display for Failpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = STAGES.iter().find(|(stage, _)| *stage == self.stage);
        write!(f, "{}.{}", self.call.name(), stage.map_or("", |(_, s)| s))
    }
}

/// A text that is not a failpoint.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not a failpoint: expected a name such as claim.applied")]
pub struct FailpointError(String);

impl FromStr for Failpoint {
    type Err = FailpointError;

    fn from_str(text: &str) -> Result<Failpoint, FailpointError> {
        let parse = || {
            let (call, stage) = text.split_once('.')?;
            let call = CALLS.iter().find(|(_, name)| *name == call)?.0;
            let stage = STAGES.iter().find(|(_, name)| *name == stage)?.0;
            Some(call.at(stage))
        };
        parse().ok_or_else(|| FailpointError(text.to_owned()))
    }
}

impl TryFrom<String> for Failpoint {
    type Error = FailpointError;

    fn try_from(text: String) -> Result<Failpoint, FailpointError> {
        text.parse()
    }
}

impl From<Failpoint> for String {
    fn from(point: Failpoint) -> String {
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
                assert_eq!(point.to_string().parse::<Failpoint>().unwrap(), point);
            }
        }
        assert!("claim".parse::<Failpoint>().is_err());
        assert!("claim.lost".parse::<Failpoint>().is_err());
    }
}
