//! Shared parts of faults that post events in addition to the plan: the harm, and these events.
//!
//! The ordinals of these events are above every ordinal of the plan, and receivers answer every
//! attempt with 200. In all else the events are accepted, sent, read and judged like others.

use crate::fault::{Aftermath, Harm, Kills, Kind};
use crate::plan::{PlannedEvent, Section};

/// The harm of such a fault: none to events of the plan.
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
    denies_database: false,
    abandons_max: 0,
    aftermath: Aftermath::Nothing,
};

/// Maximum number of ordinals of one fault.
const ORDINALS_PER_FAULT: u64 = 10_000;
/// Maximum number of faults of one kind.
const FAULTS_PER_KIND: u64 = 100;

/// The first ordinal of a fault, by its number among the faults of its kind, from 0.
pub(super) fn first_ordinal(kinds: &[Kind], kind: &Kind, number: u64) -> u64 {
    let place = kinds.iter().position(|other| other.name == kind.name);
    let block = place.expect("every kind is registered") as u64 + 1;
    (block * FAULTS_PER_KIND + number) * ORDINALS_PER_FAULT
}

/// An event of a client fault, with a key if it may be posted again.
pub(super) fn event(ordinal: u64, receiver: u32, key: Option<String>) -> PlannedEvent {
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

/// A key that no other event has.
pub(super) fn key(ordinal: u64) -> String {
    format!("own-{ordinal}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nemesis::{AbortUpload, KINDS, SameKey};

    // A shared ordinal would merge two events of the history into one.
    #[test]
    fn ordinals_of_client_faults_do_not_overlap() {
        let plan = u64::from(crate::profile::EVENTS_MAX);
        assert!(first_ordinal(KINDS, &SameKey::KIND, 0) > plan);
        let last = first_ordinal(KINDS, &SameKey::KIND, FAULTS_PER_KIND - 1) + ORDINALS_PER_FAULT;
        assert_eq!(last, first_ordinal(KINDS, &AbortUpload::KIND, 0));
    }
}
