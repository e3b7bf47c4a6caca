//! Samples the open descriptors and the resident memory of each worker process, and records their
//! changes.
//!
//! The figures come from `/proc`. A driver whose processes cannot be seen there has none.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use crate::history::op::{Op, Usage};
use crate::recorder::Recorder;

/// Time between two samples.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);
/// A sample that differs by at most one part of this number from the recorded one is not recorded.
const RECORDED_CHANGE: u64 = 10;

/// The samples of a run. Dropping them ends them.
pub(super) struct Samples(JoinHandle<()>);

impl Samples {
    /// Samples the processes of all recorded workers from now on.
    pub(super) fn start(recorder: &Recorder) -> Self {
        Self(tokio::spawn(sample(recorder.clone())))
    }
}

impl Drop for Samples {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The resources of one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Figures {
    descriptors: u64,
    resident_bytes: u64,
}

async fn sample(recorder: Recorder) {
    let mut ticks = interval(SAMPLE_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let harness = std::process::id();
    let mut recorded: BTreeMap<u32, Figures> = BTreeMap::new();
    loop {
        ticks.tick().await;
        for (worker, pid) in recorder.pids() {
            let Some(figures) = Figures::of(pid, harness) else {
                continue;
            };
            if recorded.get(&pid).is_none_or(|last| figures.differ_from(last)) {
                recorded.insert(pid, figures);
                let Figures { descriptors, resident_bytes } = figures;
                recorder.record(Op::Usage(Usage { worker, descriptors, resident_bytes }));
            }
        }
    }
}

impl Figures {
    /// Reads the figures of a process. Returns `None` if it has ended, or if another process has its
    /// id, which is not a child of `parent`.
    fn of(pid: u32, parent: u32) -> Option<Self> {
        let process = Path::new("/proc").join(pid.to_string());
        let status = std::fs::read_to_string(process.join("status")).ok()?;
        if field(&status, "PPid:")? != u64::from(parent) {
            return None;
        }
        let resident_kib = field(&status, "VmRSS:")?;
        let descriptors = std::fs::read_dir(process.join("fd")).ok()?.count() as u64;
        Some(Self { descriptors, resident_bytes: resident_kib * 1_024 })
    }

    fn differ_from(&self, last: &Self) -> bool {
        let differs = |new: u64, last: u64| new.abs_diff(last) > last / RECORDED_CHANGE;
        differs(self.descriptors, last.descriptors)
            || differs(self.resident_bytes, last.resident_bytes)
    }
}

/// The number in a line of `/proc/PID/status`, which begins with `name`.
fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::os::unix::process::parent_id;

    use super::*;

    #[test]
    fn figures_are_those_of_a_child_and_of_no_other_process() {
        let own = std::process::id();
        let figures = Figures::of(own, parent_id()).unwrap();
        // At least the standard streams, and a page.
        assert!(figures.descriptors >= 3 && figures.resident_bytes >= 4_096, "{figures:?}");
        assert_eq!(Figures::of(own, own), None);
    }

    #[test]
    fn change_by_more_than_a_tenth_is_recorded() {
        let figures = |descriptors, resident_bytes| Figures { descriptors, resident_bytes };
        let last = figures(100, 1_000);
        let differs = |descriptors, bytes| figures(descriptors, bytes).differ_from(&last);
        assert_eq!([90, 110].map(|descriptors| differs(descriptors, 1_000)), [false; 2]);
        assert_eq!([89, 111].map(|descriptors| differs(descriptors, 1_000)), [true; 2]);
        assert_eq!([900, 1_100].map(|bytes| differs(100, bytes)), [false; 2]);
        assert_eq!([899, 1_101].map(|bytes| differs(100, bytes)), [true; 2]);
    }

    #[test]
    fn number_of_a_line_is_read_without_its_unit() {
        let status = "Name:\tdispatcher\nPPid:\t7\nVmRSS:\t   22312 kB\n";
        assert_eq!((field(status, "PPid:"), field(status, "VmRSS:")), (Some(7), Some(22_312)));
        assert_eq!(field(status, "VmSwap:"), None);
    }
}
