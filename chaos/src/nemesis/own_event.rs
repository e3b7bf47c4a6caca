//! Events that a fault of clients posts beside those of the plan.
//!
//! Their ordinals lie far above the plan's, and receivers answer every attempt of them 200 at once. They
//! are accepted, sent, read and judged like any other.

use crate::fault::{Aftermath, Harm, Kills};
use crate::history::op::Section;
use crate::schedule::PlannedEvent;

/// The harm of a fault of clients: it costs other events nothing.
pub(super) const HARM: Harm = Harm {
    kills: Kills::Nothing,
    stops_workers: false,
    expires_leases: false,
    loses_settles: false,
    loses_presence: false,
    loses_requests: false,
    withholds_responses: false,
    exhausts_machine: false,
    logs_errors: false,
    abandons_max: 0,
    aftermath: Aftermath::Nothing,
};

/// Ordinals of one fault at most.
const ORDINALS_PER_FAULT: u64 = 10_000;
/// Faults of one kind at most.
const FAULTS_PER_KIND: u64 = 100;

/// The kinds of faults that post events of their own.
#[derive(Clone, Copy, Debug)]
pub(super) enum Poster {
    SameKey,
    AbortUpload,
    SlowUpload,
    Overload,
    GiveUp,
}

impl Poster {
    /// The first ordinal of the `number`-th fault of this kind, from 0.
    pub(super) const fn first_ordinal(self, number: u64) -> u64 {
        (self as u64 + 1) * FAULTS_PER_KIND * ORDINALS_PER_FAULT + number * ORDINALS_PER_FAULT
    }
}

/// An event with this ordinal, and a key if it may be posted again.
pub(super) fn own_event(ordinal: u64, receiver: u32, key: Option<String>) -> PlannedEvent {
    PlannedEvent {
        ordinal,
        section: Section::Main,
        at_ms: 0,
        receiver,
        key,
        repeated: false,
        payload: format!(r#"{{"own":{ordinal}}}"#),
        script: Vec::new(),
        dies: None,
    }
}

/// The key of an event that is the only one to have it.
pub(super) fn own_key(ordinal: u64) -> String {
    format!("own-{ordinal}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_faults_share_an_ordinal_and_none_is_the_plans() {
        let plan = u64::from(crate::profile::EVENTS_MAX);
        assert!(Poster::SameKey.first_ordinal(0) > plan);
        let last = Poster::SameKey.first_ordinal(FAULTS_PER_KIND - 1) + ORDINALS_PER_FAULT;
        assert_eq!(last, Poster::AbortUpload.first_ordinal(0));
    }
}
