//! The recorder: the one writer of the history, and what can be asked while it grows.
//!
//! Every observation gets its place and its time under one lock, so that the order of the lines is the
//! order of time. Each line is flushed when it is written: a harness that dies leaves what it saw.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::history::op::{Op, Section};
use crate::history::{Chain, Entry, History};

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
    chain: Chain,
    file: BufWriter<File>,
    entries: Vec<Entry>,
    failed: Option<io::Error>,
    sections: BTreeMap<u64, Section>,
    accepted: BTreeMap<u64, String>,
    taken: BTreeSet<u64>,
    open: BTreeMap<String, u64>,
}

impl Recorder {
    /// Begins a history in a new file; its time begins now.
    ///
    /// # Errors
    /// When the file exists or cannot be made.
    pub fn create(path: &Path) -> io::Result<Recorder> {
        let file = File::options().write(true).create_new(true).open(path)?;
        let state = State {
            chain: Chain::default(),
            file: BufWriter::new(file),
            entries: Vec::new(),
            failed: None,
            sections: BTreeMap::new(),
            accepted: BTreeMap::new(),
            taken: BTreeSet::new(),
            open: BTreeMap::new(),
        };
        let inner = Inner {
            zero: Instant::now(),
            state: Mutex::new(state),
            changed: watch::Sender::new(0),
        };
        Ok(Recorder {
            inner: Arc::new(inner),
        })
    }

    /// When the history's time began.
    #[must_use]
    pub fn zero(&self) -> Instant {
        self.inner.zero
    }

    /// Microseconds since the history began.
    #[must_use]
    pub fn now_us(&self) -> u64 {
        u64::try_from(self.inner.zero.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Writes one observation and gives its time, in microseconds.
    pub fn record(&self, op: Op) -> u64 {
        let mut state = self.state();
        let t = self.now_us();
        state.keep_track(&op, t);
        let entry = state.chain.entry(t, op);
        state.write_line();
        state.entries.push(entry);
        drop(state);
        self.inner.changed.send_modify(|count| *count += 1);
        t
    }

    /// Grows with every observation: wait on it instead of polling.
    #[must_use]
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.inner.changed.subscribe()
    }

    /// The requests of the main section that have begun and not ended, with their begin.
    #[must_use]
    pub fn open_requests(&self) -> BTreeMap<String, u64> {
        self.state().open.clone()
    }

    /// The requests of one attempt number that have begun and not ended.
    #[must_use]
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

    /// Waits until something is recorded from now on that `wanted` says yes to; false at `until`.
    pub async fn sees(&self, until: Instant, mut wanted: impl FnMut(&Op) -> bool) -> bool {
        let mut changed = self.changed();
        let mut next = self.state().entries.len();
        while timeout_at(until, changed.changed()).await.is_ok() {
            // Out of the lock: what is wanted may look at the recorder itself.
            let new: Vec<Op> = self.state().entries[next..]
                .iter()
                .map(|entry| entry.op.clone())
                .collect();
            next += new.len();
            if new.iter().any(&mut wanted) {
                return true;
            }
        }
        false
    }

    /// The acknowledged events of a section, by ordinal, with their ids.
    #[must_use]
    pub fn accepted(&self, section: Section) -> BTreeMap<u64, String> {
        let state = self.state();
        let of_section = |ordinal: &u64| state.sections.get(ordinal) == Some(&section);
        let accepted = state
            .accepted
            .iter()
            .filter(|(ordinal, _)| of_section(ordinal));
        accepted
            .map(|(ordinal, id)| (*ordinal, id.clone()))
            .collect()
    }

    /// True when a receiver has answered a request of this event with a whole 2xx.
    #[must_use]
    pub fn is_taken(&self, ordinal: u64) -> bool {
        self.state().taken.contains(&ordinal)
    }

    /// How many events were acknowledged, and how many of all were taken.
    #[must_use]
    pub fn progress(&self) -> (usize, usize) {
        let state = self.state();
        (state.accepted.len(), state.taken.len())
    }

    /// How and when the named requests ended, of those that have ended at or after `since_us`.
    #[must_use]
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

    /// The history as far as it was written.
    ///
    /// # Errors
    /// When a line could not be written: then the file is not what was seen.
    pub fn history(&self) -> io::Result<History> {
        let mut state = self.state();
        if let Some(error) = state.failed.take() {
            return Err(error);
        }
        Ok(state.chain.history(state.entries.clone()))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn keep_track(&mut self, op: &Op, t: u64) {
        match op {
            Op::IngestInvoke(invoke) => {
                self.sections.insert(invoke.ordinal, invoke.section);
            }
            Op::IngestOk(ok) => {
                self.accepted
                    .entry(ok.ordinal)
                    .or_insert_with(|| ok.id.clone());
            }
            Op::RecvBegin(begin) => {
                let section = begin
                    .ordinal
                    .and_then(|ordinal| self.sections.get(&ordinal));
                if section != Some(&Section::Defaults) {
                    self.open.insert(begin.req.clone(), t);
                }
            }
            Op::RecvEnd(end) => {
                self.open.remove(&end.req);
                if let Some(ordinal) = end.ordinal.filter(|_| end.is_success()) {
                    self.taken.insert(ordinal);
                }
            }
            _ => {}
        }
    }

    fn write_line(&mut self) {
        let line = self.chain.line();
        let written = writeln!(self.file, "{line}").and_then(|()| self.file.flush());
        if let Err(error) = written {
            self.failed.get_or_insert(error);
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::history::op::{Phase, PhaseBegin};

    #[test]
    fn what_is_recorded_is_what_the_file_says_and_no_file_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history.jsonl");
        let recorder = Recorder::create(&path).unwrap();
        for phase in [Phase::Storm, Phase::Heal, Phase::End] {
            recorder.record(Op::Phase(PhaseBegin {
                phase,
                bound_us: None,
            }));
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let history = History::from_jsonl(&text).unwrap();
        assert_eq!(history, recorder.history().unwrap());
        assert_eq!(
            Recorder::create(&path).unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
    }
}
