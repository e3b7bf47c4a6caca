//! How a request ended.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How a request ended, as far as the receiver can observe it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "snake_case")]
pub enum Ending {
    /// A complete response was written to the socket. The receiver cannot observe its arrival.
    Answered {
        /// Status code of the response.
        status: u16,
    },
    /// A complete response was written to the socket, then the connection was reset.
    AnsweredThenReset {
        /// Status code of the response.
        status: u16,
    },
    /// The connection was reset before the response was complete.
    Reset,
    /// The connection was closed before the first byte of a response.
    Closed,
    /// The connection was closed in the middle of a response, or after bytes that are not a
    /// response.
    BrokenOff,
    /// The receiver sent nothing more until the peer closed the connection.
    HungUntilPeerClosed,
    /// The receiver sent nothing more until the time limit of the hang, then closed the connection.
    HungUntilBound,
    /// The peer closed the connection before the response was complete.
    PeerClosed,
    /// The receiver was stopped.
    Stopped,
}

impl Ending {
    /// Returns the status if a complete response was written to the socket.
    pub fn whole_status(&self) -> Option<u16> {
        match self {
            Self::Answered { status } | Self::AnsweredThenReset { status } => Some(*status),
            _ => None,
        }
    }

    /// Returns true if a complete response with a 2xx status was written to the socket.
    pub fn is_success(&self) -> bool {
        self.whole_status().is_some_and(|status| (200..=299).contains(&status))
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered { status } => write!(formatter, "responded {status}"),
            Self::AnsweredThenReset { status } => {
                write!(formatter, "responded {status}, then reset")
            }
            Self::Reset => formatter.write_str("reset"),
            Self::Closed => formatter.write_str("closed without a response"),
            Self::BrokenOff => formatter.write_str("closed in the middle of a response"),
            Self::HungUntilPeerClosed => formatter.write_str("hung until the peer closed"),
            Self::HungUntilBound => formatter.write_str("hung until the time limit"),
            Self::PeerClosed => formatter.write_str("peer closed before the response"),
            Self::Stopped => formatter.write_str("stopped"),
        }
    }
}
