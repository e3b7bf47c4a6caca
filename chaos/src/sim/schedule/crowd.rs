//! Draws a schedule in which most hosts hang while events for the others arrive.
//!
//! It has no other fault, so that only the hanging hosts can delay the events of the healthy ones.
//! The permits are few and the backlog of the hanging hosts is deep.

use rand::RngExt;

use mock_receiver::Behavior;

use super::{SimSchedule, Size};
use crate::history::op::Section;
use crate::plan::PlannedEvent;
use crate::seed::Stream;
use crate::sim::fault::{Fault, PlannedFault, When};

/// Number of healthy hosts. They have the highest numbers.
const HEALTHY: u32 = 4;
/// Duration of the baseline, in milliseconds.
const QUIET_MS: u64 = 1_000;
/// Time from the first event of a hanging host until the events of the others must not be delayed,
/// in milliseconds. Until then, a worker does not know which hosts hang.
const LOAD_MS: u64 = 5_000;
/// Duration of the storm, in milliseconds.
const STORM_MS: u64 = 14_000;
/// Permits of each worker. Half of them are for hosts that do not respond.
const IN_FLIGHT_MAX: u32 = 8;
/// Maximum number of concurrent attempts per host.
const PER_HOST_MAX: u32 = 2;
/// Deadline of an attempt, in milliseconds.
const HTTP_TIMEOUT_MS: u64 = 800;
/// Duration of a lease, in milliseconds.
const LEASE_MS: u64 = 3_000;

impl SimSchedule {
    /// Changes a schedule into one with hanging hosts.
    pub(super) fn crowded(mut self, draws: &mut Stream, size: Size) -> Self {
        let hanging = draws.random_range(6..=10);
        self.receivers = hanging + HEALTHY;
        self.per_host = PER_HOST_MAX;
        self.settings.max_in_flight = IN_FLIGHT_MAX;
        self.settings.http_timeout_ms = HTTP_TIMEOUT_MS;
        self.settings.lease_ms = LEASE_MS;
        (self.quiet_ms, self.storm_ms) = (QUIET_MS, STORM_MS);
        self.events = events(hanging, u64::from(size.events));
        let on = When::At { ms: QUIET_MS, worker: 0 };
        let fault = Fault::Hang { receivers: hanging, for_ms: STORM_MS };
        self.faults = vec![PlannedFault { on, fault }];
        self
    }
}

/// Returns `count` events of healthy hosts in the baseline, four times as many of the hanging hosts
/// directly after it, and `count` of healthy hosts during the hang, from [`LOAD_MS`] after its
/// start.
fn events(hanging: u32, count: u64) -> Vec<PlannedEvent> {
    let spread = |from_ms: u64, to_ms: u64, count: u64| {
        (0..count).map(move |n| from_ms + n * (to_ms - from_ms) / count)
    };
    let hung = (0..hanging).cycle();
    let healthy = || (hanging..hanging + HEALTHY).cycle();
    let quiet = spread(0, QUIET_MS, count).zip(healthy());
    let burst = spread(QUIET_MS + 10, QUIET_MS + 110, 4 * count).zip(hung);
    let beside = spread(QUIET_MS + LOAD_MS, STORM_MS, count).zip(healthy());
    let events = quiet.chain(burst).chain(beside).zip(0..);
    events.map(|((at_ms, receiver), ordinal)| event(ordinal, at_ms, receiver)).collect()
}

fn event(ordinal: u64, at_ms: u64, receiver: u32) -> PlannedEvent {
    PlannedEvent {
        dies: None,
        ordinal,
        section: Section::Main,
        at_ms,
        receiver,
        key: None,
        repeated: false,
        payload: format!(r#"{{ "n":{ordinal} }}"#),
        script: vec![Behavior::answer(200)],
    }
}
