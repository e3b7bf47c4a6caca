//! The database's clock: virtual time, plus what steps and drifts add to it while they last.

/// When every simulated run begins, in seconds of Unix time.
const BEGIN_UNIX_SECONDS: i64 = 1_800_000_000;

/// The clock of the store.
#[derive(Debug, Default)]
pub(in crate::sim) struct Clock {
    /// Steps that last: the fault and what it adds, in microseconds.
    steps: Vec<(u64, i64)>,
    /// Drifts that last: the fault, its rate in thousandths, and since when, in microseconds.
    drifts: Vec<(u64, i64, u64)>,
}

/// The true time, in microseconds of Unix time, `t` microseconds after the begin.
pub(in crate::sim) fn unix_us(t: u64) -> i64 {
    BEGIN_UNIX_SECONDS * 1_000_000 + i64::try_from(t).unwrap_or(i64::MAX)
}

impl Clock {
    /// What the database takes the time for, in microseconds of Unix time.
    pub(in crate::sim) fn now_us(&self, t: u64) -> i64 {
        let steps: i64 = self.steps.iter().map(|(_, by)| by).sum();
        let drifted = |(_, per_mille, since): &(u64, i64, u64)| {
            i64::try_from(t - since).unwrap_or(i64::MAX) / 1_000 * per_mille
        };
        let drifts: i64 = self.drifts.iter().map(drifted).sum();
        unix_us(t) + steps + drifts
    }

    pub(super) fn step(&mut self, fault: u64, by_ms: i64) {
        self.steps.push((fault, by_ms * 1_000));
    }

    pub(super) fn drift(&mut self, fault: u64, per_mille: i64, t: u64) {
        self.drifts.push((fault, per_mille, t));
    }

    /// Takes out what a fault added: the clock jumps back to the truth.
    pub(super) fn heal(&mut self, fault: u64) {
        self.steps.retain(|(number, _)| *number != fault);
        self.drifts.retain(|(number, _, _)| *number != fault);
    }
}
