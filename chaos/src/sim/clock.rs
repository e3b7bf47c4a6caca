//! The clock of the simulated database: virtual time plus the steps and drifts of active faults.

/// Start of every simulated run, in seconds of Unix time.
const START_UNIX_SECONDS: i64 = 1_800_000_000;

/// Clock of the simulated database.
#[derive(Debug, Default)]
pub(super) struct Clock {
    steps: Vec<Step>,
    drifts: Vec<Drift>,
}

/// A `clock.step` fault that is not healed yet.
#[derive(Debug)]
struct Step {
    fault: u64,
    by_us: i64,
}

/// A `clock.drift` fault that is not healed yet.
#[derive(Debug)]
struct Drift {
    fault: u64,
    per_mille: i64,
    since_us: u64,
}

/// Converts microseconds since the start of the run to true microseconds of Unix time.
pub(super) fn unix_us(t: u64) -> i64 {
    START_UNIX_SECONDS * 1_000_000 + i64::try_from(t).unwrap_or(i64::MAX)
}

impl Clock {
    /// Returns the database's `now()` in microseconds of Unix time, `t` microseconds after the
    /// start.
    pub(super) fn now_us(&self, t: u64) -> i64 {
        let steps: i64 = self.steps.iter().map(|step| step.by_us).sum();
        let drifts: i64 = self.drifts.iter().map(|drift| drift.offset_us(t)).sum();
        unix_us(t) + steps + drifts
    }

    pub(super) fn step(&mut self, fault: u64, by_ms: i64) {
        let by_us = by_ms * 1_000;
        self.steps.push(Step { fault, by_us });
    }

    pub(super) fn drift(&mut self, fault: u64, per_mille: i64, since_us: u64) {
        self.drifts.push(Drift { fault, per_mille, since_us });
    }

    /// Removes the offset of a fault: the clock jumps back to the true time.
    pub(super) fn heal(&mut self, fault: u64) {
        self.steps.retain(|step| step.fault != fault);
        self.drifts.retain(|drift| drift.fault != fault);
    }
}

impl Drift {
    fn offset_us(&self, t: u64) -> i64 {
        i64::try_from(t - self.since_us).unwrap_or(i64::MAX) / 1_000 * self.per_mille
    }
}
