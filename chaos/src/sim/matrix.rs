//! The crash matrix: every await of one delivery, with every way to fail there, then every pair.
//!
//! One event, two workers. The awaits are not a list that somebody keeps: a run without faults is
//! traced, and each pass of a point between the post and the end of the event is one. For the pairs,
//! each run with one fault is traced in turn, and the second fault strikes at each pass that came after
//! the first: so the awaits of every recovery are in it, too.

use std::sync::Arc;

use mock_receiver::Behavior;

use super::fault::{Call, Fault, PlannedFault, Stage, When};
use super::run::{Passed, Simulator};
use super::schedule::{SimSchedule, TIER};
use crate::checker::Finding;
use crate::history::op::Section;
use crate::profile::Settings;
use crate::schedule::PlannedEvent;
use crate::seed::Seed;

/// How long the database is cut off, in milliseconds: longer than a lease.
const CUT_MS: u64 = 1_500;
/// How long a killed worker is down, in milliseconds.
const DOWN_MS: u64 = 700;
/// How long a paused worker stands still beyond its lease, in milliseconds.
const PAST_MS: u64 = 1_000;

/// What the matrix came to.
#[derive(Debug, Default)]
pub struct Matrix {
    /// Awaits of the one delivery.
    pub awaits: usize,
    /// Runs with one cell.
    pub singles: usize,
    /// Runs with two.
    pub pairs: usize,
    /// Cells of singles whose fault never struck.
    pub unreached: Vec<SimSchedule>,
    /// Runs that broke an invariant.
    pub failures: Vec<(SimSchedule, Finding)>,
}

/// Runs the matrix; of the pairs, every `stride`-th single with all of its second faults, from `part`.
#[must_use]
pub fn run(part: usize, stride: usize) -> Matrix {
    let simulator = Simulator::new();
    let mut matrix = Matrix::default();
    let calm = base(Vec::new());
    let (_, passes) = simulator.trace(&Arc::new(calm));
    let passes = of_the_delivery(&passes);
    matrix.awaits = passes.len();
    let cells: Vec<Vec<PlannedFault>> = passes.iter().flat_map(cells).collect();
    for cell in cells.into_iter().skip(part).step_by(stride) {
        let schedule = base(cell);
        let later = matrix.single(&simulator, &schedule);
        for second in later
            .iter()
            .filter(|passed| is_hot(passed))
            .flat_map(cells_of)
        {
            let mut faults = schedule.faults.clone();
            faults.extend(second);
            matrix.pairs += 1;
            matrix.judge(&simulator, base(faults));
        }
    }
    matrix
}

impl Matrix {
    /// Runs one cell, and gives the passes after its fault struck.
    fn single(&mut self, simulator: &Simulator, schedule: &SimSchedule) -> Vec<Passed> {
        self.singles += 1;
        let (ran, passes) = simulator.trace(&Arc::new(schedule.clone()));
        let struck = passes.iter().position(|passed| passed.struck);
        if struck.is_none() {
            self.unreached.push(schedule.clone());
        }
        if let Some(finding) = ran.broken() {
            self.failures.push((schedule.clone(), finding));
        }
        // When the event has ended, there is nothing left to lose.
        let end = passes
            .iter()
            .rposition(|passed| passed.point.call == Call::Settle)
            .map_or(passes.len(), |at| at + 1);
        let begin = struck.map_or(end, |at| at + 1).min(end);
        passes[begin..end].to_vec()
    }

    fn judge(&mut self, simulator: &Simulator, schedule: SimSchedule) {
        let plan = Arc::new(schedule);
        if let Some(finding) = simulator.run(&plan, None).broken() {
            self.failures.push((Arc::unwrap_or_clone(plan), finding));
        }
    }
}

/// From the first pass of the post on, until the event has ended.
fn of_the_delivery(passes: &[Passed]) -> Vec<Passed> {
    let begin = passes
        .iter()
        .position(|passed| passed.point.call == Call::Insert);
    let end = passes
        .iter()
        .rposition(|passed| passed.point.call == Call::Settle);
    let range = begin.unwrap_or(0)..end.map_or(0, |end| end + 1);
    passes[range].to_vec()
}

/// The calls that move an event; the looks beside them are in the singles.
fn is_hot(passed: &Passed) -> bool {
    !matches!(
        passed.point.call,
        Call::Absent | Call::NextDue | Call::Forget | Call::Present
    )
}

fn cells_of(passed: &Passed) -> Vec<Vec<PlannedFault>> {
    cells(passed)
}

/// {kill, error, pause past the lease} x {database fine, cut} at one pass.
fn cells(passed: &Passed) -> Vec<Vec<PlannedFault>> {
    let on = When::Pass {
        point: passed.point,
        nth: passed.nth,
    };
    let error = match (passed.point.call, passed.point.stage) {
        (Call::Attempt, Stage::Sent) => Fault::Panic,
        (Call::Attempt, _) => Fault::ResponseLost,
        _ => Fault::StoreError,
    };
    let for_ms = settings().lease_ms + PAST_MS;
    let faults = [
        Fault::Kill { down_ms: DOWN_MS },
        error,
        Fault::Pause { for_ms },
    ];
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
    }
}

fn base(faults: Vec<PlannedFault>) -> SimSchedule {
    let event = PlannedEvent {
        dies: None,
        ordinal: 0,
        section: Section::Main,
        at_ms: 10,
        receiver: 0,
        key: Some("key".into()),
        repeated: false,
        payload: "{}".into(),
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
        storm_ms: 2_500,
        events: vec![event],
        faults,
    }
}
