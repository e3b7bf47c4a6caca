//! Reads the logs of the workers after the run: a checker reports panics and unexplained errors.

use std::io;
use std::path::Path;

use crate::history::op::{Op, WorkerLog};
use crate::recorder::Recorder;
use crate::system::WorkerSpec;

/// Text in the log line of a panic.
const PANIC: &str = "panicked at";
/// Level of an error line.
const ERROR: &str = "ERROR";
/// Maximum number of quoted lines of one kind per log.
const LINES_MAX: usize = 5;

/// Records the summary of each log. A system inside the harness writes no log.
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
    let quote = |is_quoted: &dyn Fn(&&str) -> bool| -> Vec<String> {
        let lines = text.lines().filter(is_quoted).take(LINES_MAX);
        lines.map(str::to_owned).collect()
    };
    Ok(WorkerLog {
        worker: worker.to_owned(),
        lines: text.lines().count() as u64,
        panics: quote(&|line| line.contains(PANIC)),
        errors: quote(&|line| level(line) == Some(ERROR)),
    })
}

/// The level of a line: its second word.
pub(super) fn level(line: &str) -> Option<&str> {
    line.split_whitespace().nth(1)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn panics_and_errors_in_a_log_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("worker-w0.log");
        let text = "2026-01-01T00:00:00Z  INFO started, no ERROR\n\
                    thread 'main' panicked at src/x.rs:1:2:\n\
                    2026-01-01T00:00:01Z ERROR attempt{event.id=7}: cannot be written\n";
        std::fs::write(&path, text).unwrap();
        let log = read_one("w0", &path).unwrap();
        assert_eq!((log.lines, log.panics.len(), log.errors.len()), (3, 1, 1), "{log:?}");
    }
}
