//! The workers' logs, read when the run is over: a panic or an error must not stay unseen.

use std::io;
use std::path::Path;

use crate::history::op::{Op, WorkerLog};
use crate::recorder::Recorder;
use crate::system::WorkerSpec;

/// What a panic writes.
const PANIC: &str = "panicked at";
/// The level of a line, its second word, that no fault explains.
const ERROR: &str = "ERROR";
/// Lines of one kind that are quoted of one log at most.
const LINES_MAX: usize = 5;

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
    let first = |is_told: &dyn Fn(&&str) -> bool| -> Vec<String> {
        let told = text.lines().filter(is_told).take(LINES_MAX);
        told.map(str::to_owned).collect()
    };
    Ok(WorkerLog {
        worker: worker.to_owned(),
        lines: text.lines().count() as u64,
        panics: first(&|line| line.contains(PANIC)),
        errors: first(&|line| line.split_whitespace().nth(1) == Some(ERROR)),
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn a_panic_and_an_error_in_a_log_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("worker-w0.log");
        let text = "2026-01-01T00:00:00Z  INFO up, no ERROR\n\
                    thread 'main' panicked at src/x.rs:1:2:\n\
                    2026-01-01T00:00:01Z ERROR attempt{event.id=7}: it cannot be written\n";
        std::fs::write(&path, text).unwrap();
        let log = read_one("w0", &path).unwrap();
        assert_eq!(
            (log.lines, log.panics.len(), log.errors.len()),
            (3, 1, 1),
            "{log:?}"
        );
    }
}
