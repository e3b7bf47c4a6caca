//! Parser of the Postgres protocol on a link: bytes in, statements out, no IO.
//!
//! The SQL of a Parse message identifies the statement. The server writes `CommandComplete` before
//! it commits, so the parser waits for `ReadyForQuery` outside a transaction, which follows the
//! commit.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use bytes::{Buf, BytesMut};

/// Maximum size of a message in bytes. A longer one means that the bytes are not Postgres messages.
const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Number that a client sends in place of a protocol version to request TLS.
const SSL_REQUEST: u32 = 80_877_103;
/// Number that a client sends in place of a protocol version to request GSSAPI encryption.
const GSS_REQUEST: u32 = 80_877_104;

/// A statement of the dispatcher that the harness recognizes.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Statement {
    /// Inserts accepted events.
    Insert,
    /// Claims due events.
    Claim,
    /// Settles attempts.
    Settle,
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Insert => "an insert",
            Self::Claim => "a claim",
            Self::Settle => "a settle",
        })
    }
}

impl Statement {
    /// Recognizes a statement by the tables and columns in its SQL.
    fn of(sql: &str) -> Option<Self> {
        let sql = sql.to_lowercase();
        let has = |text| sql.contains(text);
        if has("insert into webhook_events") {
            Some(Self::Insert)
        } else if has("insert into delivery_attempts") && !has("'abandoned'") {
            Some(Self::Settle)
        } else if has("update webhook_events") && has("attempt_count + 1") {
            Some(Self::Claim)
        } else {
            None
        }
    }
}

/// A reply that the server still owes.
#[derive(Debug)]
enum Expected {
    Execution(Option<Statement>),
    Ready,
}

/// Parser state of one connection.
#[derive(Debug, Default)]
pub(super) struct Conversation {
    up: BytesMut,
    down: BytesMut,
    started: bool,
    /// True if the client requested encryption. The server replies with one byte.
    encryption_requested: bool,
    /// True if the bytes cannot be parsed: they are encrypted or not Postgres messages.
    opaque: bool,
    prepared: BTreeMap<Vec<u8>, Option<Statement>>,
    portals: BTreeMap<Vec<u8>, Option<Statement>>,
    expected: VecDeque<Expected>,
    rows: u32,
    uncommitted: Vec<Statement>,
}

impl Conversation {
    /// Parses bytes of the client. Returns the statements that they execute.
    pub(super) fn up(&mut self, bytes: &[u8]) -> Vec<Statement> {
        self.up.extend_from_slice(bytes);
        let mut sent = Vec::new();
        while !self.opaque {
            let Some(message) = self.next_up() else {
                break;
            };
            sent.extend(self.on_client_message(&message));
        }
        sent
    }

    /// Parses bytes of the server. Returns the committed statements that changed rows.
    pub(super) fn down(&mut self, bytes: &[u8]) -> Vec<Statement> {
        self.down.extend_from_slice(bytes);
        let mut committed = Vec::new();
        if self.encryption_requested && !self.down.is_empty() {
            self.encryption_requested = false;
            self.opaque = self.down.get_u8() != b'N';
        }
        while !self.opaque {
            match next(&mut self.down) {
                Ok(Some(message)) => committed.extend(self.on_server_message(&message)),
                Ok(None) => break,
                Err(NotPostgres) => self.opaque = true,
            }
        }
        committed
    }

    /// Returns true if the server has completed this statement and its commit is not yet confirmed.
    pub(super) fn awaits_commit_of(&self, statement: Statement) -> bool {
        self.uncommitted.contains(&statement)
    }

    fn next_up(&mut self) -> Option<Message> {
        while !self.started {
            // The first messages have no kind. They begin with a length and a version.
            let length = u32_at(&self.up, 0)? as usize;
            let version = u32_at(&self.up, 4)?;
            if self.up.len() < length {
                return None;
            }
            self.up.advance(length);
            self.encryption_requested = matches!(version, SSL_REQUEST | GSS_REQUEST);
            self.started = !self.encryption_requested;
        }
        next(&mut self.up).unwrap_or_else(|NotPostgres| {
            self.opaque = true;
            None
        })
    }

    fn on_client_message(&mut self, message: &Message) -> Option<Statement> {
        // The fields of these messages are texts that end with a zero byte.
        let mut texts = message.body.split(|byte| *byte == 0);
        let mut text = || texts.next().unwrap_or_default();
        match message.kind {
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

    fn on_server_message(&mut self, message: &Message) -> Vec<Statement> {
        let body = message.body.as_slice();
        match message.kind {
            b'D' if has_second_value(body) => self.rows += 1,
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

/// Returns true if the statement changed rows. A claim returns one row with nulls if no event is
/// due, and an insert changes nothing if its key exists.
fn has_effect(statement: Statement, rows: u32, tag: &[u8]) -> bool {
    match statement {
        Statement::Claim => rows > 0,
        Statement::Insert => !tag.starts_with(b"INSERT 0 0"),
        Statement::Settle => !tag.starts_with(b"SELECT 0"),
    }
}

fn has_second_value(row: &[u8]) -> bool {
    let first = u32_at(row, 2).map_or(0, |length| length.cast_signed().max(0) as usize);
    u32_at(row, 6 + first).is_some_and(|length| length.cast_signed() >= 0)
}

struct NotPostgres;

/// One protocol message.
struct Message {
    /// Letter of the message type, for example `Q`.
    kind: u8,
    body: Vec<u8>,
}

/// Takes the next message from `bytes`. Returns `None` if it is incomplete.
fn next(bytes: &mut BytesMut) -> Result<Option<Message>, NotPostgres> {
    let Some(length) = u32_at(bytes, 1).map(|length| length as usize) else {
        return Ok(None);
    };
    if !(4..=MESSAGE_BYTES_MAX).contains(&length) {
        return Err(NotPostgres);
    }
    if bytes.len() <= length {
        return Ok(None);
    }
    let message = bytes.split_to(length + 1);
    Ok(Some(Message { kind: message[0], body: message[5..].to_vec() }))
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

    /// A row of two columns: one byte each, or a null in the second one.
    fn row(has_second_value: bool) -> Vec<u8> {
        let second: &[u8] = if has_second_value { &[0, 0, 0, 1, b'x'] } else { &[255; 4] };
        message(b'D', &[&[0, 2, 0, 0, 0, 1, b'n'], second].concat())
    }

    fn reply(claimed: bool, state: &[u8]) -> Vec<u8> {
        [row(claimed), message(b'C', b"SELECT 1\0"), message(b'Z', state)].concat()
    }

    #[test]
    fn claim_is_committed_when_the_server_is_idle_again() {
        let mut conversation = Conversation::default();
        let up = [startup(), executed(CLAIM)].concat();
        let sent: Vec<Statement> = up.iter().flat_map(|byte| conversation.up(&[*byte])).collect();
        assert_eq!(sent, [Statement::Claim]);
        let down = reply(true, b"I");
        let (last, before) = down.split_last().expect("a reply");
        let early: Vec<Statement> =
            before.iter().flat_map(|byte| conversation.down(&[*byte])).collect();
        assert_eq!(early, []);
        assert!(conversation.awaits_commit_of(Statement::Claim));
        assert_eq!(conversation.down(&[*last]), [Statement::Claim]);
    }

    #[test]
    fn claim_of_no_event_has_no_effect() {
        let mut conversation = Conversation::default();
        conversation.up(&[startup(), executed(CLAIM)].concat());
        assert_eq!(conversation.down(&reply(false, b"I")), []);
    }

    #[test]
    fn statement_in_a_transaction_is_committed_at_its_end() {
        let mut conversation = Conversation::default();
        conversation.up(&[startup(), executed(CLAIM)].concat());
        assert_eq!(conversation.down(&reply(true, b"T")), []);
        conversation.up(&message(b'Q', b"COMMIT\0"));
        let end = [message(b'C', b"COMMIT\0"), message(b'Z', b"I")].concat();
        assert_eq!(conversation.down(&end), [Statement::Claim]);
    }

    #[test]
    fn statement_after_an_error_is_read_again() {
        let mut conversation = Conversation::default();
        conversation.up(&[startup(), executed(CLAIM)].concat());
        let refused = [message(b'E', b"\0"), message(b'Z', b"I")].concat();
        assert_eq!(conversation.down(&refused), []);
        conversation.up(&executed("insert into webhook_events values ($1)"));
        let done = [message(b'C', b"INSERT 0 1\0"), message(b'Z', b"I")].concat();
        assert_eq!(conversation.down(&done), [Statement::Insert]);
    }

    #[test]
    fn parser_continues_after_refused_tls_and_stops_after_granted() {
        let request = [8, SSL_REQUEST].map(u32::to_be_bytes).concat();
        let mut conversation = Conversation::default();
        conversation.up(&request);
        conversation.down(b"N");
        let sent = conversation.up(&[startup(), executed(CLAIM)].concat());
        assert_eq!(sent, [Statement::Claim]);
        let mut encrypted = Conversation::default();
        encrypted.up(&request);
        encrypted.down(b"S");
        let sent = encrypted.up(&[startup(), executed(CLAIM)].concat());
        assert_eq!(sent, []);
    }

    #[test]
    fn settle_differs_from_reclaim_by_its_outcome() {
        let settle = "with s as (update webhook_events ...) insert into delivery_attempts ...";
        assert_eq!(Statement::of(settle), Some(Statement::Settle));
        let reclaim = "insert into delivery_attempts select 'abandoned'";
        assert_eq!(Statement::of(reclaim), None);
    }
}
