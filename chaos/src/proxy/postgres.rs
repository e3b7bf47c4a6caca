//! What passes on a Postgres link, read off the protocol: pure, bytes in and statements out.
//!
//! Statements are told apart by the SQL of their Parse messages. The server writes `CommandComplete`
//! before it commits; only `ReadyForQuery` outside a transaction says that it did, and that is waited for.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use bytes::{Buf, BytesMut};

/// Bytes of one message at most; a longer one is no Postgres.
const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// What a client sends instead of a version to ask for TLS.
const SSL_REQUEST: u32 = 80_877_103;
/// The same for GSSAPI encryption.
const GSS_REQUEST: u32 = 80_877_104;

/// A statement of the dispatcher, as far as the harness tells them apart.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Statement {
    /// Accepts an event.
    Insert,
    /// Claims due events.
    Claim,
    /// Settles attempts.
    Settle,
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Statement::Insert => "an insert",
            Statement::Claim => "a claim",
            Statement::Settle => "a settle",
        })
    }
}

impl Statement {
    /// What a text of SQL is, by the tables and columns that it must name.
    fn of(sql: &str) -> Option<Statement> {
        let sql = sql.to_lowercase();
        let has = |text| sql.contains(text);
        if has("insert into webhook_events") {
            Some(Statement::Insert)
        } else if has("insert into delivery_attempts") && !has("'abandoned'") {
            Some(Statement::Settle)
        } else if has("update webhook_events") && has("attempt_count + 1") {
            Some(Statement::Claim)
        } else {
            None
        }
    }
}

/// What the server still has to answer.
#[derive(Debug)]
enum Expected {
    Execution(Option<Statement>),
    Ready,
}

/// One connection's conversation.
#[derive(Debug, Default)]
pub(super) struct Conversation {
    up: BytesMut,
    down: BytesMut,
    started: bool,
    /// The client asked for encryption, and the server's answer is one byte.
    asked: bool,
    /// Not to be read: encrypted, or no Postgres.
    opaque: bool,
    prepared: BTreeMap<Vec<u8>, Option<Statement>>,
    portals: BTreeMap<Vec<u8>, Option<Statement>>,
    expected: VecDeque<Expected>,
    rows: u32,
    uncommitted: Vec<Statement>,
}

impl Conversation {
    /// Reads what the client sends; gives the statements that it has executed.
    pub(super) fn up(&mut self, bytes: &[u8]) -> Vec<Statement> {
        self.up.extend_from_slice(bytes);
        let mut sent = Vec::new();
        while !self.opaque {
            let Some((kind, body)) = self.next_up() else {
                break;
            };
            sent.extend(self.client_says(kind, &body));
        }
        sent
    }

    /// Reads what the server sends; gives the statements that it has committed with effect.
    pub(super) fn down(&mut self, bytes: &[u8]) -> Vec<Statement> {
        self.down.extend_from_slice(bytes);
        let mut committed = Vec::new();
        if self.asked && !self.down.is_empty() {
            self.asked = false;
            self.opaque = self.down.get_u8() != b'N';
        }
        while !self.opaque {
            match next(&mut self.down) {
                Ok(Some((kind, body))) => committed.extend(self.server_says(kind, &body)),
                Ok(None) => break,
                Err(NoPostgres) => self.opaque = true,
            }
        }
        committed
    }

    /// True from the first answer of a statement until it is clear whether it is committed.
    pub(super) fn awaits_commit_of(&self, statement: Statement) -> bool {
        self.uncommitted.contains(&statement)
    }

    fn next_up(&mut self) -> Option<(u8, Vec<u8>)> {
        while !self.started {
            // The first messages have no kind: a length and a version.
            let length = u32_at(&self.up, 0)? as usize;
            let version = u32_at(&self.up, 4)?;
            if self.up.len() < length {
                return None;
            }
            self.up.advance(length);
            self.asked = matches!(version, SSL_REQUEST | GSS_REQUEST);
            self.started = !self.asked;
        }
        next(&mut self.up).unwrap_or_else(|NoPostgres| {
            self.opaque = true;
            None
        })
    }

    fn client_says(&mut self, kind: u8, body: &[u8]) -> Option<Statement> {
        let mut texts = body.split(|byte| *byte == 0);
        let mut text = || texts.next().unwrap_or_default();
        match kind {
            b'P' => {
                let (name, sql) = (text().to_vec(), text());
                let statement = Statement::of(&String::from_utf8_lossy(sql));
                self.prepared.insert(name, statement);
                None
            }
            b'B' => {
                let (portal, name) = (text().to_vec(), text());
                let statement = self.prepared.get(name).copied().flatten();
                self.portals.insert(portal, statement);
                None
            }
            b'E' => {
                let statement = self.portals.get(text()).copied().flatten();
                self.expected.push_back(Expected::Execution(statement));
                statement
            }
            b'Q' => {
                let statement = Statement::of(&String::from_utf8_lossy(text()));
                self.expected.push_back(Expected::Execution(statement));
                self.expected.push_back(Expected::Ready);
                statement
            }
            b'S' => {
                self.expected.push_back(Expected::Ready);
                None
            }
            _ => None,
        }
    }

    fn server_says(&mut self, kind: u8, body: &[u8]) -> Vec<Statement> {
        match kind {
            b'D' if second_value_is_there(body) => self.rows += 1,
            b'C' => {
                let rows = std::mem::take(&mut self.rows);
                if body.starts_with(b"ROLLBACK") {
                    self.uncommitted.clear();
                }
                if let Some(Expected::Execution(_)) = self.expected.front()
                    && let Some(Expected::Execution(Some(statement))) = self.expected.pop_front()
                    && has_effect(statement, rows, body)
                {
                    self.uncommitted.push(statement);
                }
            }
            b'E' => {
                self.rows = 0;
                self.uncommitted.clear();
                while let Some(Expected::Execution(_)) = self.expected.front() {
                    self.expected.pop_front();
                }
            }
            b'Z' => {
                while let Some(Expected::Execution(_)) = self.expected.pop_front() {}
                if body == b"I" {
                    return std::mem::take(&mut self.uncommitted);
                }
            }
            _ => {}
        }
        Vec::new()
    }
}

/// A claim answers one row even when nothing was due, and an insert may meet its key.
fn has_effect(statement: Statement, rows: u32, tag: &[u8]) -> bool {
    match statement {
        Statement::Claim => rows > 0,
        Statement::Insert => !tag.starts_with(b"INSERT 0 0"),
        Statement::Settle => !tag.starts_with(b"SELECT 0"),
    }
}

fn second_value_is_there(row: &[u8]) -> bool {
    let first = u32_at(row, 2).map_or(0, |length| length.cast_signed().max(0) as usize);
    u32_at(row, 6 + first).is_some_and(|length| length.cast_signed() >= 0)
}

struct NoPostgres;

/// Takes the next whole message, if it is there: its kind and its body.
fn next(bytes: &mut BytesMut) -> Result<Option<(u8, Vec<u8>)>, NoPostgres> {
    let Some(length) = u32_at(bytes, 1).map(|length| length as usize) else {
        return Ok(None);
    };
    if !(4..=MESSAGE_BYTES_MAX).contains(&length) {
        return Err(NoPostgres);
    }
    if bytes.len() <= length {
        return Ok(None);
    }
    let message = bytes.split_to(length + 1);
    Ok(Some((message[0], message[5..].to_vec())))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at + 4)?;
    Some(u32::from_be_bytes(four.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLAIM: &str = "update webhook_events e set attempt_count = e.attempt_count + 1";

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).expect("a short body");
        [&[kind], &length.to_be_bytes()[..], body].concat()
    }

    fn startup() -> Vec<u8> {
        [8_u32, 196_608].map(u32::to_be_bytes).concat()
    }

    fn executed(sql: &str) -> Vec<u8> {
        let parse = message(b'P', format!("s1\0{sql}\0\0\0").as_bytes());
        let bind = message(b'B', b"\0s1\0\0\0\0\0\0\0");
        let rest = [message(b'E', b"\0\0\0\0\0"), message(b'S', b"")].concat();
        [parse, bind, rest].concat()
    }

    /// Two columns of one byte each, or a second one that is null.
    fn row(second_is_there: bool) -> Vec<u8> {
        let second: &[u8] = if second_is_there {
            &[0, 0, 0, 1, b'x']
        } else {
            &[255; 4]
        };
        message(b'D', &[&[0, 2, 0, 0, 0, 1, b'n'], second].concat())
    }

    fn answered(claimed: bool, state: &[u8]) -> Vec<u8> {
        [
            row(claimed),
            message(b'C', b"SELECT 1\0"),
            message(b'Z', state),
        ]
        .concat()
    }

    #[test]
    fn a_claim_is_committed_when_the_server_is_idle_again_however_bytes_are_cut() {
        let mut talk = Conversation::default();
        let up = [startup(), executed(CLAIM)].concat();
        let sent: Vec<Statement> = up.iter().flat_map(|byte| talk.up(&[*byte])).collect();
        assert_eq!(sent, [Statement::Claim]);
        let down = answered(true, b"I");
        let (last, before) = down.split_last().expect("an answer");
        let early: Vec<Statement> = before.iter().flat_map(|byte| talk.down(&[*byte])).collect();
        assert_eq!(early, []);
        assert!(talk.awaits_commit_of(Statement::Claim));
        assert_eq!(talk.down(&[*last]), [Statement::Claim]);
    }

    #[test]
    fn a_claim_of_nothing_has_no_effect() {
        let mut talk = Conversation::default();
        talk.up(&[startup(), executed(CLAIM)].concat());
        assert_eq!(talk.down(&answered(false, b"I")), []);
    }

    #[test]
    fn a_statement_in_a_transaction_is_committed_by_its_end_alone() {
        let mut talk = Conversation::default();
        talk.up(&[startup(), executed(CLAIM)].concat());
        assert_eq!(talk.down(&answered(true, b"T")), []);
        talk.up(&message(b'Q', b"COMMIT\0"));
        let end = [message(b'C', b"COMMIT\0"), message(b'Z', b"I")].concat();
        assert_eq!(talk.down(&end), [Statement::Claim]);
    }

    #[test]
    fn an_error_commits_nothing_and_the_next_statement_is_read_again() {
        let mut talk = Conversation::default();
        talk.up(&[startup(), executed(CLAIM)].concat());
        let refused = [message(b'E', b"\0"), message(b'Z', b"I")].concat();
        assert_eq!(talk.down(&refused), []);
        talk.up(&executed("insert into webhook_events values ($1)"));
        let done = [message(b'C', b"INSERT 0 1\0"), message(b'Z', b"I")].concat();
        assert_eq!(talk.down(&done), [Statement::Insert]);
    }

    #[test]
    fn a_refused_request_for_tls_is_passed_over_and_a_granted_one_ends_the_reading() {
        let asked = [8, SSL_REQUEST].map(u32::to_be_bytes).concat();
        let mut talk = Conversation::default();
        talk.up(&asked);
        talk.down(b"N");
        let sent = talk.up(&[startup(), executed(CLAIM)].concat());
        assert_eq!(sent, [Statement::Claim]);
        let mut hidden = Conversation::default();
        hidden.up(&asked);
        hidden.down(b"S");
        let sent = hidden.up(&[startup(), executed(CLAIM)].concat());
        assert_eq!(sent, []);
    }

    #[test]
    fn a_settle_is_told_from_a_reclaim_by_what_it_writes() {
        let settle = "with s as (update webhook_events ...) insert into delivery_attempts ...";
        assert_eq!(Statement::of(settle), Some(Statement::Settle));
        let reclaim = "insert into delivery_attempts select 'abandoned'";
        assert_eq!(Statement::of(reclaim), None);
    }
}
