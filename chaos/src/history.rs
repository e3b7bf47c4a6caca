//! The history: everything that was observed in a run, in one order, as lines of JSON.
//!
//! Each line carries the hash of the line before it, so that an edited or cut file is noticed. Time is
//! the harness's own monotonic clock in microseconds: nothing is ordered by a clock of the system
//! under test. This module does no IO; `recorder` writes the lines and `checker` judges them.

pub mod facts;
pub mod op;
pub mod transition;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use op::Op;

/// The hash that the first line carries: there is no line before it.
pub const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// One line of the history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Place in the order, from 1.
    pub seq: u64,
    /// Harness-monotonic time, in microseconds since the run began.
    pub t: u64,
    /// Who observed it: `run`, `client`, `recv`, `fault`, `worker`, `pg.audit` or `sim`.
    pub src: String,
    /// What was observed.
    #[serde(flatten)]
    pub op: Op,
    /// SHA-256 of the line before, in hex.
    pub prev: String,
}

impl Entry {
    /// The line of the file, without its line break.
    #[must_use]
    pub fn line(&self) -> String {
        serde_json::to_string(self).expect("an entry holds nothing that JSON cannot")
    }
}

/// SHA-256 of `bytes`, in hex.
#[must_use]
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// A whole history whose chain of hashes holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    entries: Vec<Entry>,
    tail: String,
}

/// Why a text is no history.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum HistoryError {
    /// A line does not say what a line says.
    #[error("line {line} of the history cannot be read: {why}")]
    Unreadable {
        /// Counted from 1.
        line: usize,
        /// What the reader said.
        why: String,
    },
    /// A line does not follow the one before it.
    #[error("line {line} of the history does not follow the line before it: edited or cut")]
    Broken {
        /// Counted from 1.
        line: usize,
    },
    /// There is no line.
    #[error("the history is empty")]
    Empty,
}

impl History {
    /// Reads lines of JSON and checks that each follows the one before.
    ///
    /// # Errors
    /// Names the first line that cannot be read or does not follow.
    pub fn from_jsonl(text: &str) -> Result<History, HistoryError> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut tail = GENESIS.to_owned();
        for (index, line) in text.lines().enumerate() {
            let entry: Entry =
                serde_json::from_str(line).map_err(|error| HistoryError::Unreadable {
                    line: index + 1,
                    why: error.to_string(),
                })?;
            let earlier = entries.last().map_or(0, |last| last.t);
            if entry.prev != tail || entry.seq != index as u64 + 1 || entry.t < earlier {
                return Err(HistoryError::Broken { line: index + 1 });
            }
            tail = sha256_hex(line.as_bytes());
            entries.push(entry);
        }
        if entries.is_empty() {
            return Err(HistoryError::Empty);
        }
        Ok(History { entries, tail })
    }

    /// Builds a history out of `(t, op)` in order.
    #[must_use]
    pub fn from_ops(ops: impl IntoIterator<Item = (u64, Op)>) -> History {
        let mut chain = Chain::default();
        let entries = ops.into_iter().map(|(t, op)| chain.entry(t, op)).collect();
        History {
            entries,
            tail: chain.tail,
        }
    }

    /// The same, made by the simulation: its transitions come from a model.
    #[must_use]
    pub fn of_simulation(ops: impl IntoIterator<Item = (u64, Op)>) -> History {
        let mut chain = Chain {
            audit: op::SIM,
            ..Chain::default()
        };
        let entries = ops.into_iter().map(|(t, op)| chain.entry(t, op)).collect();
        History {
            entries,
            tail: chain.tail,
        }
    }

    /// Entries without the chain of hashes, for a judgement that nobody stores: hashing is most of
    /// the cost of a short history.
    #[must_use]
    pub fn unchained(ops: impl IntoIterator<Item = (u64, Op)>) -> History {
        let entry = |((t, op), seq)| Entry {
            seq,
            t,
            src: String::new(),
            op,
            prev: String::new(),
        };
        History {
            entries: ops.into_iter().zip(1..).map(entry).collect(),
            tail: String::new(),
        }
    }

    /// The lines as text.
    #[must_use]
    pub fn to_jsonl(&self) -> String {
        self.entries
            .iter()
            .map(|entry| entry.line() + "\n")
            .collect()
    }

    /// Every entry, in order.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The hash of the last line: names this history and no other.
    #[must_use]
    pub fn tail(&self) -> &str {
        &self.tail
    }
}

/// The writing end of the chain of hashes.
#[derive(Debug)]
pub struct Chain {
    seq: u64,
    tail: String,
    line: String,
    audit: &'static str,
}

impl Default for Chain {
    fn default() -> Chain {
        Chain {
            seq: 0,
            tail: GENESIS.into(),
            line: String::new(),
            audit: op::PG_AUDIT,
        }
    }
}

impl Chain {
    /// The next entry; `t` is in microseconds and must not go back.
    pub fn entry(&mut self, t: u64, op: Op) -> Entry {
        self.seq += 1;
        let prev = std::mem::take(&mut self.tail);
        let src = match op.source() {
            op::PG_AUDIT => self.audit,
            src => src,
        };
        let entry = Entry {
            seq: self.seq,
            t,
            src: src.into(),
            op,
            prev,
        };
        self.line = entry.line();
        self.tail = sha256_hex(self.line.as_bytes());
        entry
    }

    /// The history of every entry that was made, without hashing them once more.
    #[must_use]
    pub fn history(&self, entries: Vec<Entry>) -> History {
        let tail = self.tail.clone();
        History { entries, tail }
    }

    /// The text of the last entry made.
    #[must_use]
    pub fn line(&self) -> &str {
        &self.line
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::history::op::{Acknowledged, Phase, PhaseBegin};

    fn history() -> History {
        let phase = |phase| {
            Op::Phase(PhaseBegin {
                phase,
                bound_us: None,
            })
        };
        History::from_ops([
            (1, phase(Phase::Storm)),
            (
                5,
                Op::IngestOk(Acknowledged {
                    op: 1,
                    ordinal: 0,
                    id: "a".into(),
                }),
            ),
            (9, phase(Phase::Heal)),
        ])
    }

    #[test]
    fn a_history_reads_back_from_its_own_lines() {
        let history = history();
        assert_eq!(History::from_jsonl(&history.to_jsonl()).unwrap(), history);
    }

    #[test]
    fn an_edited_line_is_noticed_at_the_line_after_it() {
        let text = history().to_jsonl().replace(r#""id":"a""#, r#""id":"b""#);
        assert_eq!(
            History::from_jsonl(&text),
            Err(HistoryError::Broken { line: 3 })
        );
    }

    #[test]
    fn a_line_taken_out_is_noticed() {
        let text = history().to_jsonl();
        let cut: Vec<&str> = text
            .lines()
            .enumerate()
            .filter(|(i, _)| *i != 1)
            .map(|(_, l)| l)
            .collect();
        assert_eq!(
            History::from_jsonl(&cut.join("\n")),
            Err(HistoryError::Broken { line: 2 })
        );
    }

    #[test]
    fn a_line_that_goes_back_in_time_is_noticed_and_one_of_the_same_time_is_none() {
        let at = |times: [u64; 2]| {
            let op = || history().entries()[0].op.clone();
            let history = History::from_ops(times.map(|t| (t, op())));
            History::from_jsonl(&history.to_jsonl()).map(|read| read.tail().to_owned())
        };
        assert!(at([5, 5]).is_ok());
        assert_eq!(at([5, 4]), Err(HistoryError::Broken { line: 2 }));
    }

    #[test]
    fn a_line_of_another_number_is_noticed_though_its_hash_is_right() {
        let mut entries = history().entries()[..2].to_vec();
        entries[1].seq = 7;
        let text: String = entries.iter().map(|entry| entry.line() + "\n").collect();
        assert_eq!(
            History::from_jsonl(&text),
            Err(HistoryError::Broken { line: 2 })
        );
    }

    #[test]
    fn the_tail_is_the_hash_of_the_last_line_and_a_chain_knows_its_last_line() {
        let history = history();
        let text = history.to_jsonl();
        let last = text.lines().last().unwrap();
        assert_eq!(history.tail(), sha256_hex(last.as_bytes()));
        let mut chain = Chain::default();
        let ops = history.entries().iter();
        let entries = ops
            .map(|entry| chain.entry(entry.t, entry.op.clone()))
            .collect();
        assert_eq!(chain.line(), last);
        assert_eq!(chain.history(entries), history);
    }

    #[test]
    fn a_transition_tells_whether_a_model_or_a_trigger_saw_it() {
        let counted = || {
            [
                (1, Op::Census(transition::Census::default())),
                (2, history().entries()[0].op.clone()),
            ]
        };
        let sources = |history: &History| -> Vec<String> {
            history
                .entries()
                .iter()
                .map(|entry| entry.src.clone())
                .collect()
        };
        assert_eq!(sources(&History::from_ops(counted())), ["pg.audit", "run"]);
        let simulated = History::of_simulation(counted());
        assert_eq!(sources(&simulated), ["sim", "run"]);
        assert_eq!(History::from_jsonl(&simulated.to_jsonl()), Ok(simulated));
        let unchained = History::unchained(counted());
        let places: Vec<(u64, u64)> = unchained
            .entries()
            .iter()
            .map(|entry| (entry.seq, entry.t))
            .collect();
        assert_eq!(places, [(1, 1), (2, 2)]);
    }

    #[test]
    fn a_half_line_and_an_empty_file_are_errors_and_no_panic() {
        let text = history().to_jsonl();
        let half = &text[..text.len() - 9];
        assert!(matches!(
            History::from_jsonl(half),
            Err(HistoryError::Unreadable { line: 3, .. })
        ));
        assert_eq!(History::from_jsonl(""), Err(HistoryError::Empty));
    }
}
