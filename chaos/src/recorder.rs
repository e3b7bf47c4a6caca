//! The recorder: the only writer of the history, and queries over the history so far.
//!
//! Every observation gets its line number and its time under one lock, so the order of lines is the
//! order of time. Each line is flushed when it is written, so a harness that dies leaves its
//! history.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::history::op::{Op, RecvBegin, Section};
use crate::history::{Entry, History};

/// A shared recorder; clones write to the same history.
#[derive(Clone, Debug)]
pub struct Recorder {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    zero: Instant,
    state: Mutex<State>,
    changed: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    file: BufWriter<File>,
    entries: Vec<Entry>,
    write_error: Option<io::Error>,
    sections: BTreeMap<u64, Section>,
    accepted: BTreeMap<u64, String>,
    received: BTreeSet<u64>,
    open: BTreeMap<String, u64>,
    pids: BTreeMap<String, u32>,
}

impl Recorder {
    /// Creates the file of a history, whose time begins now.
    ///
    /// # Errors
    /// The file exists or cannot be created.
    pub fn create(path: &Path) -> io::Result<Recorder> {
        let file = File::options().write(true).create_new(true).open(path)?;
        let state = State {
            file: BufWriter::new(file),
            entries: Vec::new(),
            write_error: None,
            sections: BTreeMap::new(),
            accepted: BTreeMap::new(),
            received: BTreeSet::new(),
            open: BTreeMap::new(),
            pids: BTreeMap::new(),
        };
        let inner = Inner {
            zero: Instant::now(),
            state: Mutex::new(state),
            changed: watch::Sender::new(0),
        };
        Ok(Recorder { inner: Arc::new(inner) })
    }

    /// The instant at which the history's time is 0.
    pub fn zero(&self) -> Instant {
        self.inner.zero
    }

    /// Microseconds since the history began.
    pub fn now_us(&self) -> u64 {
        u64::try_from(self.inner.zero.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Writes one observation and returns its time in microseconds.
    pub fn record(&self, op: Op) -> u64 {
        let mut state = self.state();
        let t = self.now_us();
        state.track(&op, t);
        let entry = Entry::new(state.entries.len() as u64 + 1, t, op);
        state.write(&entry);
        state.entries.push(entry);
        drop(state);
        self.inner.changed.send_modify(|count| *count += 1);
        t
    }

    /// Returns a counter that changes with every observation, to wait on.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.inner.changed.subscribe()
    }

    /// Returns the open requests of the main section with the time of their begin.
    pub fn open_requests(&self) -> BTreeMap<String, u64> {
        self.state().open.clone()
    }

    /// Returns the requests of the main section that were open at `since_us` or began later, with
    /// the times of their begin. `open` are those that were open then.
    pub fn open_since(&self, open: &BTreeMap<String, u64>, since_us: u64) -> BTreeMap<String, u64> {
        let state = self.state();
        let recent = state.entries.iter().rev();
        let recent = recent.take_while(|entry| entry.t >= since_us);
        let begun = recent.filter_map(|entry| match &entry.op {
            Op::RecvBegin(begin) if state.is_main(begin) => Some((begin.req.clone(), entry.t)),
            _ => None,
        });
        open.clone().into_iter().chain(begun).collect()
    }

    /// Returns the open requests with an attempt number.
    pub fn open_of_attempt(&self, attempt: u32) -> BTreeSet<String> {
        let state = self.state();
        let of_attempt = |op: &Op| match op {
            Op::RecvBegin(begin) if begin.attempt == Some(attempt) => Some(begin.req.clone()),
            _ => None,
        };
        let begun = state.entries.iter();
        let begun = begun.filter_map(|entry| of_attempt(&entry.op));
        begun.filter(|req| state.open.contains_key(req)).collect()
    }

    /// Waits for a new observation for which `wanted` returns true. Returns false at `until`.
    pub async fn sees(&self, until: Instant, mut wanted: impl FnMut(&Op) -> bool) -> bool {
        let mut changed = self.changed();
        let mut next = self.state().entries.len();
        while timeout_at(until, changed.changed()).await.is_ok() {
            // Copied, because `wanted` may call the recorder, which locks again.
            let new: Vec<Op> =
                self.state().entries[next..].iter().map(|entry| entry.op.clone()).collect();
            next += new.len();
            if new.iter().any(&mut wanted) {
                return true;
            }
        }
        false
    }

    /// Returns the ids of the acknowledged events of a section, by ordinal.
    pub fn accepted(&self, section: Section) -> BTreeMap<u64, String> {
        let state = self.state();
        let of_section = |ordinal: &u64| state.sections.get(ordinal) == Some(&section);
        let accepted = state.accepted.iter().filter(|(ordinal, _)| of_section(ordinal));
        accepted.map(|(ordinal, id)| (*ordinal, id.clone())).collect()
    }

    /// Returns true if a receiver has sent a complete 2xx for this event.
    pub fn is_received(&self, ordinal: u64) -> bool {
        self.state().received.contains(&ordinal)
    }

    /// Returns the last process id of each worker. The process may have ended.
    pub fn pids(&self) -> BTreeMap<String, u32> {
        self.state().pids.clone()
    }

    /// Returns the workers that warned at or after `since_us` that the clocks differ.
    pub fn warned_of_clocks(&self, since_us: u64) -> BTreeSet<String> {
        let state = self.state();
        let recent = state.entries.iter().rev();
        let recent = recent.take_while(|entry| entry.t >= since_us);
        let warned = recent.filter_map(|entry| match &entry.op {
            Op::ClockWarning(warning) => Some(warning.worker.clone()),
            _ => None,
        });
        warned.collect()
    }

    /// Returns the numbers of acknowledged events and of received events.
    pub fn progress(&self) -> (usize, usize) {
        let state = self.state();
        (state.accepted.len(), state.received.len())
    }

    /// Returns name, ending and time of those of the requests that ended at or after `since_us`.
    pub fn endings(
        &self,
        requests: &BTreeMap<String, u64>,
        since_us: u64,
    ) -> Vec<(String, String, u64)> {
        let state = self.state();
        let recent = state.entries.iter().rev();
        let recent = recent.take_while(|entry| entry.t >= since_us);
        let ended = recent.filter_map(|entry| match &entry.op {
            Op::RecvEnd(end) if requests.contains_key(&end.req) => {
                Some((end.req.clone(), end.how.clone(), entry.t))
            }
            _ => None,
        });
        ended.collect()
    }

    /// Returns the history so far.
    ///
    /// # Errors
    /// A line could not be written, so the file is incomplete.
    pub fn history(&self) -> io::Result<History> {
        let mut state = self.state();
        if let Some(error) = state.write_error.take() {
            return Err(error);
        }
        Ok(History::from_entries(state.entries.clone()))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn track(&mut self, op: &Op, t: u64) {
        match op {
            Op::IngestInvoke(invoke) => {
                self.sections.insert(invoke.ordinal, invoke.section);
            }
            Op::IngestOk(ok) => {
                self.accepted.entry(ok.ordinal).or_insert_with(|| ok.id.clone());
            }
            Op::Worker(seen) => {
                if let Some(pid) = seen.pid {
                    self.pids.insert(seen.worker.clone(), pid);
                }
            }
            Op::RecvBegin(begin) if self.is_main(begin) => {
                self.open.insert(begin.req.clone(), t);
            }
            Op::RecvEnd(end) => {
                self.open.remove(&end.req);
                if let Some(ordinal) = end.ordinal.filter(|_| end.is_success()) {
                    self.received.insert(ordinal);
                }
            }
            _ => {}
        }
    }

    fn is_main(&self, begin: &RecvBegin) -> bool {
        let section = begin.ordinal.and_then(|ordinal| self.sections.get(&ordinal));
        section != Some(&Section::Defaults)
    }

    fn write(&mut self, entry: &Entry) {
        let line = entry.line();
        let written = writeln!(self.file, "{line}").and_then(|()| self.file.flush());
        if let Err(error) = written {
            self.write_error.get_or_insert(error);
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::history::op::{Phase, PhaseBegin, RecvEnd};
    use crate::history::sha256_hex;

    fn begin(req: &str) -> Op {
        Op::RecvBegin(RecvBegin {
            req: req.into(),
            ordinal: None,
            id: None,
            attempt: Some(1),
            target: String::new(),
            sha256: String::new(),
            sig: String::new(),
            scripted: None,
        })
    }

    fn end(req: &str) -> Op {
        Op::RecvEnd(RecvEnd { req: req.into(), ordinal: None, status: None, how: String::new() })
    }

    // The engine takes a while to kill a container, and requests begin meanwhile.
    #[test]
    fn request_that_begins_after_the_start_of_a_fault_may_be_hit_by_it() {
        let dir = tempfile::tempdir().unwrap();
        let recorder = Recorder::create(&dir.path().join("history.jsonl")).unwrap();
        for op in [begin("r0-1"), end("r0-1"), begin("r0-2")] {
            recorder.record(op);
        }
        let open = recorder.open_requests();
        let last_us = recorder.now_us();
        while recorder.now_us() == last_us {}
        let start_us = recorder.now_us();
        for op in [begin("r0-3"), end("r0-3"), end("r0-2")] {
            recorder.record(op);
        }
        let since = recorder.open_since(&open, start_us);
        let names: Vec<_> = since.keys().map(String::as_str).collect();
        assert_eq!(names, ["r0-2", "r0-3"]);
    }

    #[test]
    fn file_equals_the_recorded_history_and_is_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history.jsonl");
        let recorder = Recorder::create(&path).unwrap();
        for phase in [Phase::Storm, Phase::Heal, Phase::End] {
            recorder.record(Op::Phase(PhaseBegin { phase, bound_us: None }));
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let history = History::from_jsonl(&text).unwrap();
        assert_eq!(history, recorder.history().unwrap());
        assert_eq!(history.sha256(), sha256_hex(text.as_bytes()));
        assert_eq!(Recorder::create(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    }
}
