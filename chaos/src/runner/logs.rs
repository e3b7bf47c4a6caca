//! The workers' logs, read when the run is over: a panic must not stay unseen.

use std::io;
use std::path::Path;

use crate::history::op::{Op, WorkerLog};
use crate::recorder::Recorder;
use crate::system::WorkerSpec;

/// What a panic writes.
const PANIC: &str = "panicked at";
/// Panics that are quoted of one log at most.
const PANICS_MAX: usize = 5;

/// Reads the log of each worker into the history. A system that writes no log has none to read.
pub(super) fn read<'s>(
    specs: impl Iterator<Item = &'s WorkerSpec>,
    recorder: &Recorder,
) -> io::Result<()> {
    for spec in specs {
        if spec.log.exists() {
            recorder.record(Op::WorkerLog(read_one(&spec.name, &spec.log)?));
        }
    }
    Ok(())
}

fn read_one(worker: &str, log: &Path) -> io::Result<WorkerLog> {
    let text = String::from_utf8_lossy(&std::fs::read(log)?).into_owned();
    let panics = text.lines().filter(|line| line.contains(PANIC));
    Ok(WorkerLog {
        worker: worker.to_owned(),
        lines: text.lines().count() as u64,
        panics: panics.take(PANICS_MAX).map(str::to_owned).collect(),
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn a_panic_in_a_log_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("worker-w0.log");
        std::fs::write(&path, "up\nthread 'main' panicked at src/x.rs:1:2:\nover\n").unwrap();
        let log = read_one("w0", &path).unwrap();
        assert_eq!((log.lines, log.panics.len()), (3, 1));
    }
}
