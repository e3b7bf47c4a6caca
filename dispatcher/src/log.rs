//! Log of the process: the queue of lines, the thread that writes them, and the lines at start.
//!
//! Logging never stops work. A full disk, or an output that is closed or not read, loses lines and
//! has no other effect. So no other thread writes to stdout or stderr while the process serves, and
//! panics are logged like everything else.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::os::fd::AsFd;
use std::panic::PanicHookInfo;
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};
use tracing_subscriber::EnvFilter;

use crate::Role;
use crate::config::{Config, LogConfig};
use crate::metrics::LOG_LINES_DROPPED;

/// Maximum number of lines that wait for the output. Further lines are dropped.
const LINES_MAX: usize = 10_000;

/// The loss of lines is logged when fewer lines wait, so that its own line is not dropped too.
const REPORT_LINES_MAX: usize = LINES_MAX / 2;

/// Time that the end of the process waits for the output.
const END_FLUSH_MAX: Duration = Duration::from_millis(500);

/// Pause before the next write to a non-blocking output that is full.
const BLOCKED_PAUSE: Duration = Duration::from_millis(20);

/// The queue of the process.
static QUEUE: Queue = Queue::new();

/// Flushes the log when it is dropped, for at most half a second.
#[derive(Debug)]
#[must_use]
pub struct FlushAtEnd(());

impl Drop for FlushAtEnd {
    fn drop(&mut self) {
        flush(END_FLUSH_MAX);
    }
}

/// Starts the log on stdout, with the filter of `LOG` and the format of `LOG_FORMAT`. Panics are
/// logged too, instead of written to stderr.
///
/// # Errors
/// Stdout cannot be duplicated, or the thread cannot be started.
pub fn start(config: &LogConfig) -> io::Result<FlushAtEnd> {
    // A duplicate has no buffer and no lock that a blocked write could hold.
    let stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let is_terminal = stdout.is_terminal();
    let mut output = Output { to: stdout, is_torn: false };
    let writer = thread::Builder::new().name("log".to_owned());
    writer.spawn(move || {
        loop {
            QUEUE.write_next(&mut output);
        }
    })?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(&config.filter))
        .with_target(false)
        .with_ansi(is_terminal)
        // They would be written to stderr, which panics if the write fails.
        .log_internal_errors(false)
        .with_writer(|| &QUEUE);
    if config.json {
        log.json().init();
    } else {
        log.init();
    }
    std::panic::set_hook(Box::new(log_panic));
    Ok(FlushAtEnd(()))
}

/// Waits until all lines are written, for at most `limit`.
pub fn flush(limit: Duration) {
    QUEUE.flush(limit);
}

/// Logs the settings that an operator needs first, and the warnings about the others.
pub fn settings(config: &Config, role: Role) {
    let (worker, policy) = (&config.worker, &config.worker.policy);
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        ?role,
        bind = %config.bind,
        database = %config.store.database,
        in_flight_max = worker.in_flight_max,
        lease_s = worker.lease.as_secs_f64(),
        max_attempts = policy.max_attempts,
        retry_span_s = policy.span().as_secs(),
        "starting"
    );
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let backtrace = Backtrace::capture();
    let is_captured = backtrace.status() == BacktraceStatus::Captured;
    tracing::error!(
        location = panic.location().map(tracing::field::display),
        backtrace = is_captured.then(|| tracing::field::display(backtrace)),
        "panicked: {}",
        panic.payload_as_str().unwrap_or("without a message")
    );
}

/// Lines that wait for the output.
#[derive(Debug)]
struct Queue {
    state: Mutex<State>,
    /// Notified when a line is added, and when one is written.
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    /// The first one may be on its way to the output.
    lines: VecDeque<Vec<u8>>,
    /// Lines dropped since the last report in the log.
    unreported: u64,
}

impl Queue {
    const fn new() -> Self {
        let state = State { lines: VecDeque::new(), unreported: 0 };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn push(&self, line: &[u8]) {
        let mut state = self.state.lock();
        if state.lines.len() >= LINES_MAX {
            state.dropped();
            return;
        }
        state.lines.push_back(line.to_vec());
        self.changed.notify_all();
    }

    /// Waits for a line and writes it. Afterwards, logs the number of dropped lines if there is
    /// room again.
    fn write_next<W: Write>(&self, output: &mut Output<W>) {
        let mut state = self.state.lock();
        self.changed.wait_while(&mut state, |state| state.lines.is_empty());
        // Its place is kept until it is written, so that a flush waits for it and for the report.
        let line = std::mem::take(&mut state.lines[0]);
        let result = MutexGuard::unlocked(&mut state, || output.write_line(&line));
        if result.is_err() {
            state.dropped();
        } else if state.unreported > 0 && state.lines.len() <= REPORT_LINES_MAX {
            let lines = std::mem::take(&mut state.unreported);
            MutexGuard::unlocked(&mut state, || {
                tracing::warn!(lines, "log lines were dropped, the output was full or not read");
            });
        }
        state.lines.pop_front();
        self.changed.notify_all();
    }

    fn flush(&self, limit: Duration) {
        let is_open = |state: &mut State| !state.lines.is_empty();
        self.changed.wait_while_for(&mut self.state.lock(), is_open, limit);
    }
}

impl State {
    fn dropped(&mut self) {
        self.unreported += 1;
        LOG_LINES_DROPPED.inc();
    }
}

/// The subscriber writes each line in one call.
impl Write for &Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The destination of the lines.
struct Output<W> {
    to: W,
    /// The last line was written in part, so the next one must not continue it.
    is_torn: bool,
}

impl<W: Write> Output<W> {
    fn write_line(&mut self, line: &[u8]) -> io::Result<()> {
        if self.is_torn {
            self.write_all(b"\n")?;
        }
        self.write_all(line)
    }

    fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.to.write(bytes) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => {
                    bytes = &bytes[written..];
                    self.is_torn = !bytes.is_empty();
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    thread::park_timeout(BLOCKED_PAUSE);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use std::io::Read;
    use std::process::Command;
    use std::sync::mpsc;

    use nix::fcntl::{FcntlArg, OFlag, fcntl};

    use super::*;

    /// Ends a failing test.
    const WAIT_MAX: Duration = Duration::from_secs(30);

    /// A file on a disk with `room` bytes left.
    #[derive(Default)]
    struct Disk {
        room: usize,
        written: Vec<u8>,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(self.room);
            if taken == 0 {
                return Err(ErrorKind::StorageFull.into());
            }
            self.room -= taken;
            self.written.extend(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn queue() -> &'static Queue {
        Box::leak(Box::new(Queue::new()))
    }

    /// Writes all lines. The subscriber of the queue is active meanwhile, so that its report is a
    /// line too.
    fn write_all(queue: &'static Queue, output: &mut Output<Disk>) {
        let log = tracing_subscriber::fmt().with_writer(move || queue);
        let log = log.without_time().with_ansi(false).finish();
        tracing::subscriber::with_default(log, || {
            while !queue.state.lock().lines.is_empty() {
                queue.write_next(output);
            }
        });
    }

    // Nothing reads the queue, as if the output were blocked. `push` must return nevertheless.
    #[test]
    fn full_queue_drops_lines_and_reports_them_when_there_is_room() {
        let queue = queue();
        let before = LOG_LINES_DROPPED.get();
        for _ in 0..LINES_MAX + 3 {
            queue.push(b"line\n");
        }
        assert_eq!(queue.state.lock().lines.len(), LINES_MAX);
        assert!(LOG_LINES_DROPPED.get() >= before + 3);
        let mut output =
            Output { to: Disk { room: usize::MAX, ..Disk::default() }, is_torn: false };
        write_all(queue, &mut output);
        let text = String::from_utf8(output.to.written).unwrap();
        assert_eq!(text.matches("line\n").count(), LINES_MAX);
        assert_eq!(text.matches("log lines were dropped").count(), 1, "{text}");
        assert!(text.ends_with("lines=3\n"));
    }

    #[test]
    fn full_disk_loses_lines_but_tears_none_that_follow() {
        let queue = queue();
        let mut output = Output { to: Disk { room: 4 + 2, ..Disk::default() }, is_torn: false };
        for _ in 0..3 {
            queue.push(b"old\n");
        }
        write_all(queue, &mut output);
        output.to.room = usize::MAX;
        queue.push(b"new\n");
        write_all(queue, &mut output);
        let text = String::from_utf8(output.to.written).unwrap();
        let report = text.strip_prefix("old\nol\nnew\n").unwrap_or_default();
        assert!(report.ends_with("lines=2\n"), "{text}");
    }

    #[test]
    fn flush_of_a_blocked_output_ends_at_its_limit() {
        let queue = queue();
        queue.push(b"line\n");
        queue.flush(Duration::from_millis(1));
        assert_eq!(queue.state.lock().lines.len(), 1);
    }

    const CHILD: &str = "DISPATCHER_LOG_TEST_CHILD";

    /// Not a test itself: [`panic_is_logged_although_stderr_is_blocked`] runs it as a process.
    #[test]
    fn panics_in_a_child_process() {
        if std::env::var_os(CHILD).is_some() {
            let config = LogConfig { filter: "info".to_owned(), json: false };
            let _flush = start(&config).unwrap();
            let panicked = thread::spawn(|| panic!("on purpose")).join();
            assert!(panicked.is_err());
        }
    }

    // The pipe of stderr is full and not read. A panic hook that writes to it would not return.
    #[test]
    fn panic_is_logged_although_stderr_is_blocked() {
        let (_unread, stderr) = full_pipe();
        let (mut output, stdout) = io::pipe().unwrap();
        let program = std::env::current_exe().unwrap();
        let mut child = Command::new(program)
            .args(["--exact", "log::tests::panics_in_a_child_process"])
            .arg("--nocapture")
            .env(CHILD, "1")
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .unwrap();
        let (sender, text) = mpsc::channel();
        thread::spawn(move || {
            let mut text = String::new();
            output.read_to_string(&mut text).unwrap();
            sender.send(text).unwrap();
        });
        let text = text.recv_timeout(WAIT_MAX);
        child.kill().unwrap();
        child.wait().unwrap();
        let text = text.expect("the child process ends");
        assert!(text.contains("panicked: on purpose"), "{text}");
    }

    fn full_pipe() -> (io::PipeReader, io::PipeWriter) {
        let (reader, mut writer) = io::pipe().unwrap();
        fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        while writer.write(&[0; 4096]).is_ok() {}
        fcntl(&writer, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
        (reader, writer)
    }
}
