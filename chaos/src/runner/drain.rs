//! The drain: waits until each accepted event is final, or until the bound passes.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::history::op::Section;
use crate::recorder::Recorder;
use crate::workload::Workload;

/// Interval between two rounds of reads.
const READ_INTERVAL: Duration = Duration::from_millis(200);
/// Each tenth round also reads the events that no receiver has accepted: they may be dead or lost.
const READ_ALL_EVERY: u64 = 10;

/// Returns when each accepted event of the section is final, or at `until`.
pub(super) async fn drain(
    recorder: &Recorder,
    section: Section,
    workload: &Workload,
    until: Instant,
) {
    let mut open: BTreeMap<u64, String> = recorder.accepted(section);
    let rounds = async {
        for round in 1_u64.. {
            let all = round % READ_ALL_EVERY == 0;
            let is_read = |ordinal: &u64| all || recorder.is_received(*ordinal);
            let to_read: Vec<u64> = open.keys().copied().filter(is_read).collect();
            for ordinal in to_read {
                let state = workload.read(ordinal, &open[&ordinal]).await;
                if state.is_final() {
                    open.remove(&ordinal);
                }
            }
            if open.is_empty() {
                return;
            }
            tokio::time::sleep(READ_INTERVAL).await;
        }
    };
    // The liveness checker judges the events that are still open at the bound.
    let _ = timeout_at(until, rounds).await;
}
