//! The history: every observation of a run in one order, one JSON object per line.
//!
//! Time is the monotonic clock of the harness in microseconds, so no clock of the system under test
//! orders anything. This module does no IO. `recorder` writes the lines, the manifest stores the
//! SHA-256 of the file, and `checker` judges the entries.

pub mod facts;
pub mod op;
pub mod transition;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use op::Op;

/// One line of the history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Line number, from 1.
    pub seq: u64,
    /// Harness-monotonic time since the run began, in microseconds.
    pub t: u64,
    /// The observer: `run`, `client`, `recv`, `fault`, `worker`, `pg.audit` or `sim`.
    pub src: Cow<'static, str>,
    /// The observation.
    #[serde(flatten)]
    pub op: Op,
}

impl Entry {
    /// An entry of the real tier.
    pub fn new(seq: u64, t: u64, op: Op) -> Self {
        let src = Cow::Borrowed(op.source());
        Self { seq, t, src, op }
    }

    /// An entry of the simulation: its transitions come from the model.
    fn of_simulation(seq: u64, t: u64, op: Op) -> Self {
        let src = match op.source() {
            op::PG_AUDIT => op::SIM,
            src => src,
        };
        let src = Cow::Borrowed(src);
        Self { seq, t, src, op }
    }

    /// Returns the line of the file, without its line break.
    pub fn line(&self) -> String {
        serde_json::to_string(self).expect("every field of an entry has a JSON form")
    }
}

/// Returns the SHA-256 of `bytes` in hex.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// All entries of a run. Line numbers are consecutive, and time never decreases.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    entries: Vec<Entry>,
}

/// The reason why a text is not a history.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum HistoryError {
    /// A line is not a known observation.
    #[error("reading line {line} of the history: {reason}")]
    Unreadable {
        /// Line number, from 1.
        line: usize,
        /// The parser's message.
        reason: String,
    },
    /// A line number is missing or repeated, or time decreases.
    #[error("line {line} of the history does not follow line {}: lines are missing or edited", line - 1)]
    OutOfOrder {
        /// Line number, from 1.
        line: usize,
    },
    /// The text has no line.
    #[error("the history is empty")]
    Empty,
}

impl History {
    /// Reads JSON lines.
    ///
    /// # Errors
    /// The first line that cannot be read or is out of order.
    pub fn from_jsonl(text: &str) -> Result<Self, HistoryError> {
        let mut entries: Vec<Entry> = Vec::new();
        for (line, text) in (1..).zip(text.lines()) {
            let entry: Entry = serde_json::from_str(text)
                .map_err(|error| HistoryError::Unreadable { line, reason: error.to_string() })?;
            let earlier = entries.last().map_or(0, |last| last.t);
            if entry.seq != line as u64 || entry.t < earlier {
                return Err(HistoryError::OutOfOrder { line });
            }
            entries.push(entry);
        }
        if entries.is_empty() {
            return Err(HistoryError::Empty);
        }
        Ok(Self { entries })
    }

    /// The history of entries that the recorder has numbered.
    pub fn from_entries(entries: Vec<Entry>) -> Self {
        Self { entries }
    }

    /// Builds a history of the real tier out of `(t, op)` in order.
    pub fn from_ops(ops: impl IntoIterator<Item = (u64, Op)>) -> Self {
        Self::numbered(ops, Entry::new)
    }

    /// Builds a history of the simulation out of `(t, op)` in order.
    pub fn of_simulation(ops: impl IntoIterator<Item = (u64, Op)>) -> Self {
        Self::numbered(ops, Entry::of_simulation)
    }

    fn numbered(
        ops: impl IntoIterator<Item = (u64, Op)>,
        entry: fn(u64, u64, Op) -> Entry,
    ) -> Self {
        let numbered = (1..).zip(ops);
        Self { entries: numbered.map(|(seq, (t, op))| entry(seq, t, op)).collect() }
    }

    /// Returns the lines as text.
    pub fn to_jsonl(&self) -> String {
        self.entries.iter().map(|entry| entry.line() + "\n").collect()
    }

    /// Returns the SHA-256 of the text in hex. It equals that of the file that the recorder wrote.
    pub fn sha256(&self) -> String {
        let mut hash = Sha256::new();
        for entry in &self.entries {
            hash.update(entry.line());
            hash.update("\n");
        }
        hex::encode(hash.finalize())
    }

    /// Returns true if the transitions of the store were recorded. An audit that saw no transition
    /// still counts the rows.
    pub fn has_audit(&self) -> bool {
        let mut entries = self.entries.iter();
        entries.any(|entry| entry.op.source() == op::PG_AUDIT)
    }

    /// Every entry, in order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::history::op::{Acknowledged, Phase, PhaseBegin};

    fn history() -> History {
        let phase = |phase| Op::Phase(PhaseBegin { phase, bound_us: None });
        History::from_ops([
            (1, phase(Phase::Storm)),
            (5, Op::IngestOk(Acknowledged { op: 1, ordinal: 0, id: "a".into() })),
            (9, phase(Phase::Heal)),
        ])
    }

    #[test]
    fn history_reads_back_from_its_lines() {
        let history = history();
        assert_eq!(History::from_jsonl(&history.to_jsonl()).unwrap(), history);
    }

    #[test]
    fn hash_is_that_of_the_text_and_changes_with_every_byte() {
        let text = history().to_jsonl();
        assert_eq!(history().sha256(), sha256_hex(text.as_bytes()));
        let edited = text.replace(r#""id":"a""#, r#""id":"b""#);
        let edited = History::from_jsonl(&edited).unwrap();
        assert_ne!(edited.sha256(), history().sha256());
    }

    #[test]
    fn missing_line_is_out_of_order() {
        let text = history().to_jsonl();
        let lines: Vec<&str> = text.lines().collect();
        let cut = [lines[0], lines[2]].join("\n");
        assert_eq!(History::from_jsonl(&cut), Err(HistoryError::OutOfOrder { line: 2 }));
    }

    #[test]
    fn decreasing_time_is_out_of_order_and_equal_time_is_not() {
        let at = |times: [u64; 2]| {
            let op = || history().entries()[0].op.clone();
            let history = History::from_ops(times.map(|t| (t, op())));
            History::from_jsonl(&history.to_jsonl()).map(|read| read.entries().len())
        };
        assert_eq!(at([5, 5]), Ok(2));
        assert_eq!(at([5, 4]), Err(HistoryError::OutOfOrder { line: 2 }));
    }

    #[test]
    fn wrong_line_number_is_out_of_order() {
        let mut entries = history().entries()[..2].to_vec();
        entries[1].seq = 7;
        let text = History::from_entries(entries).to_jsonl();
        assert_eq!(History::from_jsonl(&text), Err(HistoryError::OutOfOrder { line: 2 }));
    }

    #[test]
    fn source_of_a_transition_is_the_trigger_or_the_model() {
        let counted = || {
            [(1, Op::Census(transition::Census::default())), (2, history().entries()[0].op.clone())]
        };
        let sources = |history: &History| -> Vec<String> {
            let entries = history.entries().iter();
            entries.map(|entry| entry.src.clone().into_owned()).collect()
        };
        let real = History::from_ops(counted());
        assert_eq!(sources(&real), ["pg.audit", "run"]);
        let simulated = History::of_simulation(counted());
        assert_eq!(sources(&simulated), ["sim", "run"]);
        assert_eq!(History::from_jsonl(&simulated.to_jsonl()), Ok(simulated));
    }

    #[test]
    fn audit_exists_if_the_store_reported_anything() {
        assert!(!history().has_audit());
        let census = Op::Census(transition::Census::default());
        assert!(History::from_ops([(1, census)]).has_audit());
    }

    #[test]
    fn half_a_line_and_an_empty_file_are_errors() {
        let text = history().to_jsonl();
        let half = &text[..text.len() - 9];
        assert!(matches!(History::from_jsonl(half), Err(HistoryError::Unreadable { line: 3, .. })));
        assert_eq!(History::from_jsonl(""), Err(HistoryError::Empty));
    }
}
