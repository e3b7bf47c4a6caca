//! The line above a table: when and where its figures were measured, and how busy the machine was.

use chrono::Utc;
use tokio::time::Instant;

/// The state at the start of a benchmark.
#[derive(Clone, Copy, Debug)]
pub struct Conditions {
    began: Instant,
    load: f64,
}

impl Conditions {
    /// Reads the load of the machine.
    pub fn begin() -> Self {
        Self { began: Instant::now(), load: load_average() }
    }

    /// The line. `remark` ends with a separator if it is not empty.
    pub fn end(self, postgres: &str, remark: &str) -> String {
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        format!(
            "{remark}{}, {cores} cores, load {:.1} at the start and {:.1} at the end, {:.0} min, \
             Postgres {postgres}.",
            Utc::now().format("%Y-%m-%d"),
            self.load,
            load_average(),
            (self.began.elapsed().as_secs_f64() / 60.0).ceil(),
        )
    }
}

/// Processes that ran or waited during the last minute. NaN if the system does not report it.
fn load_average() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let first = text.split_whitespace().next();
    first.and_then(|load| load.parse().ok()).unwrap_or(f64::NAN)
}
