//! The drain: wait until nothing more will happen to any acknowledged event, or the bound passes.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::history::op::Section;
use crate::recorder::Recorder;
use crate::workload::Workload;

/// Wait between two looks.
const LOOK: Duration = Duration::from_millis(200);
/// Every this many looks, events that no receiver has taken are asked for, too: they may be dead, or
/// forgotten.
const ASK_ALL_EVERY: u64 = 10;

/// Returns when every acknowledged event of the section has ended, or at `until`.
pub(super) async fn drain(
    recorder: &Recorder,
    section: Section,
    workload: &Workload,
    until: Instant,
) {
    let mut left: BTreeMap<u64, String> = recorder.accepted(section);
    let look = async {
        for number in 1_u64.. {
            let ask_all = number % ASK_ALL_EVERY == 0;
            let asked: Vec<u64> = left
                .keys()
                .copied()
                .filter(|o| ask_all || recorder.is_taken(*o))
                .collect();
            for ordinal in asked {
                let state = workload.read(ordinal, &left[&ordinal]).await;
                if state.is_final() {
                    left.remove(&ordinal);
                }
            }
            if left.is_empty() {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    // Whatever is left then is the liveness checker's to judge.
    let _ = timeout_at(until, look).await;
}
