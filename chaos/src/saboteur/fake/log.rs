//! The log of a worker: one line per attempt, which a thread writes.
//!
//! An honest worker does not wait for its log, and drops a line if the queue is full.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use tokio::sync::oneshot;

/// Lines that wait for the thread.
const QUEUE_LINES_MAX: usize = 1_024;

/// The queue of the log of one worker.
#[derive(Clone, Debug)]
pub(super) struct Log {
    lines: SyncSender<Line>,
}

struct Line {
    text: String,
    written: oneshot::Sender<io::Result<()>>,
}

impl Log {
    /// Opens the file and starts the thread, which ends with the last clone of the log.
    ///
    /// # Errors
    /// If the file cannot be opened.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let (lines, queue) = sync_channel(QUEUE_LINES_MAX);
        std::thread::spawn(move || write(file, &queue));
        Ok(Self { lines })
    }

    /// Appends a line. The result of the write need not be awaited.
    pub(super) fn append(&self, text: &str) -> oneshot::Receiver<io::Result<()>> {
        let (written, result) = oneshot::channel();
        let text = format!("{} INFO {text}\n", chrono::Utc::now().to_rfc3339());
        let _dropped_if_full = self.lines.try_send(Line { text, written });
        result
    }
}

fn write(mut file: File, queue: &Receiver<Line>) {
    while let Ok(line) = queue.recv() {
        let written = file.write_all(line.text.as_bytes());
        let _is_awaited = line.written.send(written);
    }
}
