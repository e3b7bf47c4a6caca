//! Follows the log of each worker and records each warning that the clocks differ.
//!
//! The lines are read during the run, so that their times are on the clock of the harness.

use std::path::PathBuf;
use std::time::Duration;

use tokio::fs::File;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use super::logs::level;
use crate::history::op::{ClockWarning, Op};
use crate::recorder::Recorder;
use crate::system::WorkerSpec;

/// Time between two readings of a log.
const READ_INTERVAL: Duration = Duration::from_millis(250);
/// Level of a warning.
const WARN: &str = "WARN";
/// Text in a warning that the clocks differ.
const CLOCK: &str = "clock";

/// The readings of a run. Dropping them ends them.
pub(super) struct Warnings(Vec<JoinHandle<()>>);

impl Warnings {
    /// Reads the logs of these workers from now on, each from its begin.
    pub(super) fn start<'s>(
        specs: impl Iterator<Item = &'s WorkerSpec>,
        recorder: &Recorder,
    ) -> Self {
        let follow = |spec: &WorkerSpec| {
            tokio::spawn(follow(spec.name.clone(), spec.log.clone(), recorder.clone()))
        };
        Self(specs.map(follow).collect())
    }
}

impl Drop for Warnings {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

/// A system inside the harness writes no log, so the file may never exist.
async fn follow(worker: String, log: PathBuf, recorder: Recorder) {
    let mut ticks = interval(READ_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut reader = loop {
        ticks.tick().await;
        if let Ok(file) = File::open(&log).await {
            break BufReader::new(file);
        }
    };
    let mut line = Vec::new();
    loop {
        // At the end of the file, the line may be incomplete. The next reading continues it.
        while reader.read_until(b'\n', &mut line).await.is_ok() && line.ends_with(b"\n") {
            let text = String::from_utf8_lossy(&line);
            if level(&text) == Some(WARN) && text.contains(CLOCK) {
                let (worker, line) = (worker.clone(), text.trim_end().to_owned());
                recorder.record(Op::ClockWarning(ClockWarning { worker, line }));
            }
            line.clear();
        }
        ticks.tick().await;
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::collections::BTreeMap;
    use std::io::Write as _;

    use tokio::time::Instant;

    use super::*;

    /// Far above the time that the test needs. It only ends a test that hangs.
    const TEST_TIMEOUT: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn only_complete_warnings_of_the_clock_are_recorded() {
        let dir = tempfile::tempdir().unwrap();
        let recorder = Recorder::create(&dir.path().join("history.jsonl")).unwrap();
        let spec = WorkerSpec {
            name: "w0".into(),
            env: BTreeMap::new(),
            bind: ([127, 0, 0, 1], 1).into(),
            log: dir.path().join("worker-w0.log"),
            hosts: None,
        };
        let _warnings = Warnings::start([&spec].into_iter(), &recorder);
        let mut log = std::fs::File::create(&spec.log).unwrap();
        let mut append = |text: &str| log.write_all(text.as_bytes()).unwrap();
        let until = Instant::now() + TEST_TIMEOUT;
        let is_warning = |op: &Op| matches!(op, Op::ClockWarning(_));
        append("2026-01-01T00:00:00Z  INFO the clocks agree again\n");
        append("2026-01-01T00:00:01Z  WARN lease lost\n2026-01-01T00:00:02Z  WARN the clo");
        let (is_seen, ()) = tokio::join!(recorder.sees(until, is_warning), async {
            append("ck differs\n");
        });
        assert!(is_seen);
        let history = recorder.history().unwrap();
        let warning = ClockWarning {
            worker: "w0".into(),
            line: "2026-01-01T00:00:02Z  WARN the clock differs".into(),
        };
        let ops: Vec<&Op> = history.entries().iter().map(|entry| &entry.op).collect();
        assert_eq!(ops, [&Op::ClockWarning(warning)]);
        assert_eq!(recorder.warned_of_clocks(0), ["w0".to_owned()].into());
        assert!(recorder.warned_of_clocks(recorder.now_us() + 1).is_empty());
    }
}
