//! One receipt: the request, the behavior that responded to it, and its ending.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::behavior::Behavior;
use crate::check::SignatureCheck;
use crate::ending::Ending;

/// The record of one request. Times are in microseconds since the journal's zero.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Number in the journal, from 1, in the order of `begin_us`.
    pub seq: u64,
    /// Address of the receiver. It distinguishes receivers that share a journal.
    pub receiver: SocketAddr,
    /// Ordinal in the path `/webhook/{ordinal}`, if there is one.
    pub ordinal: Option<u64>,
    /// Path and query as received. Empty if the head could not be parsed.
    pub path: String,
    /// Value of the header `webhook-id`.
    pub webhook_id: Option<String>,
    /// Value of the header `webhook-attempt`. The signature does not cover it, so it is not
    /// evidence.
    pub attempt: Option<u32>,
    /// Number of requests with a valid signature for this ordinal or id, including this one. 0 if
    /// the signature is not valid.
    pub arrival: u32,
    /// Value of the header `webhook-timestamp`, in unix seconds.
    pub webhook_timestamp: Option<i64>,
    /// SHA-256 of the received bytes of the body, in hexadecimal.
    pub sha256: String,
    /// Number of received bytes of the body.
    pub bytes: usize,
    /// Value of the header `content-type`.
    pub content_type: Option<String>,
    /// Value of the header `user-agent`.
    pub user_agent: Option<String>,
    /// Result of the receiver's signature check.
    pub signature: SignatureCheck,
    /// The behavior that responded. `None` for a refused request.
    pub behavior: Option<Behavior>,
    /// Time at which the head was complete.
    pub head_us: u64,
    /// Time at which the request was complete or was refused. The response begins after it.
    pub begin_us: u64,
    /// Time at which the request ended.
    pub end_us: Option<u64>,
    /// How the request ended. `None` while it is open.
    pub ending: Option<Ending>,
}

impl Receipt {
    /// Returns true if the receiver accepted the event: the signature is valid and a complete 2xx
    /// response was written.
    pub fn is_accepted(&self) -> bool {
        self.signature.is_valid() && self.ending.as_ref().is_some_and(Ending::is_success)
    }
}

/// The moment at which an observer is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The request has been read, and the response has not begun.
    Begin,
    /// The request has ended.
    End,
}
