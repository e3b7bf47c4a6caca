//! The crash matrix: every fault at every await of one delivery, and then every pair of faults.
//!
//! The run has one event and two workers. The event is handed over in one half of the matrix, and
//! claimed in the other one, because its payload is large. The awaits are traced and not listed: a
//! run without faults hits a failpoint at each await. For the pairs, each run with one fault is
//! traced too. The second fault strikes at each hit after the first fault, so the awaits of every
//! recovery are included.

use std::sync::Arc;

use mock_receiver::Behavior;

use super::failpoint::FailpointHit;
use super::failpoint::{Call, Stage};
use super::fault::{Fault, PlannedFault, When};
use super::run::Simulator;
use super::schedule::{SimSchedule, TIER};
use crate::checker::Finding;
use crate::history::op::Section;
use crate::plan::PlannedEvent;
use crate::profile::Settings;
use crate::seed::Seed;

/// Duration of a cut of the database connections, in milliseconds. It is longer than a lease.
const CUT_MS: u64 = 1_500;
/// Time until a killed worker starts again, in milliseconds.
const DOWN_MS: u64 = 700;
/// Duration of a pause beyond the lease, in milliseconds.
const PAUSE_BEYOND_LEASE_MS: u64 = 1_000;

/// Size of a payload that is not handed over, in bytes.
const LARGE_BYTES: usize = 256 * 1024;

/// The result of the crash matrix.
#[derive(Debug, Default)]
pub struct Matrix {
    /// Number of awaits of both deliveries.
    pub awaits: usize,
    /// Number of runs with one cell.
    pub singles: usize,
    /// Number of runs with two cells.
    pub pairs: usize,
    /// Runs with one cell whose fault never struck.
    pub unreached: Vec<SimSchedule>,
    /// Runs that broke an invariant.
    pub failures: Vec<(SimSchedule, Finding)>,
}

/// Runs a part of the matrix: every `stride`-th cell from `part` on, alone and with every second
/// fault.
#[must_use]
pub fn run(part: usize, stride: usize) -> Matrix {
    let simulator = Simulator::new();
    let mut matrix = Matrix::default();
    for payload_bytes in [2, LARGE_BYTES] {
        let without_faults = schedule(payload_bytes, Vec::new());
        let (_, hits) = simulator.trace(&Arc::new(without_faults));
        let hits = delivery_hits(&hits);
        matrix.awaits += hits.len();
        let singles = hits.iter().flat_map(cells);
        for cell in singles.skip(part).step_by(stride) {
            let single = schedule(payload_bytes, cell);
            let later = matrix.run_single(&simulator, &single);
            let moves_event = |hit: &&FailpointHit| moves_event(hit.failpoint.call);
            for second in later.iter().filter(moves_event).flat_map(cells) {
                let mut faults = single.faults.clone();
                faults.extend(second);
                matrix.pairs += 1;
                matrix.run_pair(&simulator, schedule(payload_bytes, faults));
            }
        }
    }
    matrix
}

impl Matrix {
    /// Runs one cell. Returns the failpoint hits after its fault struck, up to the last settle.
    fn run_single(&mut self, simulator: &Simulator, schedule: &SimSchedule) -> Vec<FailpointHit> {
        self.singles += 1;
        let (result, hits) = simulator.trace(&Arc::new(schedule.clone()));
        let struck = hits.iter().position(|hit| hit.struck);
        if struck.is_none() {
            self.unreached.push(schedule.clone());
        }
        if let Some(finding) = result.broken() {
            self.failures.push((schedule.clone(), finding));
        }
        // After the last settle the event is final, and a fault cannot lose it.
        let end = hits.iter().rposition(is_settle);
        let end = end.map_or(hits.len(), |at| at + 1);
        let begin = struck.map_or(end, |at| at + 1).min(end);
        hits[begin..end].to_vec()
    }

    fn run_pair(&mut self, simulator: &Simulator, schedule: SimSchedule) {
        let schedule = Arc::new(schedule);
        if let Some(finding) = simulator.run(&schedule, None).broken() {
            self.failures.push((Arc::unwrap_or_clone(schedule), finding));
        }
    }
}

/// Returns the hits from the first one of the insert to the last one of a settle.
fn delivery_hits(hits: &[FailpointHit]) -> Vec<FailpointHit> {
    let is_insert = |hit: &FailpointHit| hit.failpoint.call == Call::Insert;
    let begin = hits.iter().position(is_insert);
    let end = hits.iter().rposition(is_settle);
    let range = begin.unwrap_or(0)..end.map_or(0, |end| end + 1);
    hits[range].to_vec()
}

fn is_settle(hit: &FailpointHit) -> bool {
    hit.failpoint.call == Call::Settle
}

/// Returns true if the call changes an event. The second fault of a pair strikes only at these
/// calls.
const fn moves_event(call: Call) -> bool {
    !matches!(call, Call::Absent | Call::NextDue | Call::Forget | Call::Present)
}

/// Returns {kill, error, pause past the lease} x {database available, cut} at one hit.
fn cells(hit: &FailpointHit) -> Vec<Vec<PlannedFault>> {
    let on = When::Pass { point: hit.failpoint, nth: hit.nth };
    let error = match (hit.failpoint.call, hit.failpoint.stage) {
        (Call::Attempt, Stage::Sent) => Fault::Panic,
        (Call::Attempt, _) => Fault::ResponseLost,
        _ => Fault::StoreError,
    };
    let for_ms = settings().lease_ms + PAUSE_BEYOND_LEASE_MS;
    let faults = [Fault::Kill { down_ms: DOWN_MS }, error, Fault::Pause { for_ms }];
    let cut = Fault::StoreCut { for_ms: CUT_MS };
    let planned = |fault| PlannedFault { on, fault };
    let with = |fault: Fault| [vec![planned(fault)], vec![planned(fault), planned(cut)]];
    faults.into_iter().flat_map(with).collect()
}

fn settings() -> Settings {
    Settings {
        http_timeout_ms: 300,
        backoff_base_ms: 50,
        backoff_cap_ms: 200,
        lease_ms: 600,
        poll_ms: 200,
        max_attempts: 6,
        max_abandoned: 8,
        max_in_flight: 16,
        max_in_flight_per_host: None,
        max_api_connections: None,
    }
}

fn schedule(payload_bytes: usize, faults: Vec<PlannedFault>) -> SimSchedule {
    let event = PlannedEvent {
        dies: None,
        ordinal: 0,
        section: Section::Main,
        at_ms: 10,
        receiver: 0,
        key: Some("key".into()),
        repeated: false,
        payload: "1".repeat(payload_bytes),
        script: vec![Behavior::answer(200)],
    };
    SimSchedule {
        tier: TIER.to_owned(),
        seed: Seed::new(1),
        workers: 2,
        receivers: 1,
        per_host: 16,
        settings: settings(),
        store_ms_max: 1,
        wire_ms_max: 1,
        partial_claims_percent: 0,
        quiet_ms: 0,
        storm_ms: 2_500,
        events: vec![event],
        faults,
    }
}
