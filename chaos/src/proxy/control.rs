//! The controls of a link and their effects: plain data of the proxy's interface.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::postgres::Statement;

/// Direction of bytes on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// From the client, which connects, to the server.
    Up,
    /// From the server, which accepts, to the client.
    Down,
}

/// What a link does with the bytes of its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// Forwards bytes without delay.
    Pass,
    /// Forwards each piece after `delay_ms` plus 0 to `jitter_ms`.
    Late {
        /// Minimum delay in milliseconds.
        delay_ms: u64,
        /// Maximum additional delay in milliseconds.
        jitter_ms: u64,
    },
    /// Limits the rate of each direction of each connection.
    Slow {
        /// The rate in bytes per millisecond, at least 1.
        bytes_per_ms: u32,
    },
    /// Holds bytes and connection ends back and forwards them when the control changes.
    Stall,
    /// Accepts connections, drops all bytes and hides connection ends.
    BlackHole,
    /// Resets connections on the server side and is a black hole for the client side, so that the
    /// client still sees an open connection.
    HalfOpen,
    /// Drops the bytes and the end of one direction.
    Swallow(Direction),
    /// Forwards this number of bytes of a direction, then resets the connection.
    ResetAt(Direction, u64),
    /// Refuses new connections and resets the open ones.
    Refuse,
    /// Resets one connection after the server has committed this statement and before its reply is
    /// forwarded. Applies once.
    CutCommit(Statement),
}

impl Control {
    /// Returns true if the control drops bytes of this direction. A connection that has lost bytes
    /// cannot continue afterwards.
    pub(super) const fn swallows(self, direction: Direction) -> bool {
        match self {
            Self::BlackHole | Self::HalfOpen => true,
            Self::Swallow(Direction::Up) => matches!(direction, Direction::Up),
            Self::Swallow(Direction::Down) => matches!(direction, Direction::Down),
            _ => false,
        }
    }

    /// Returns true if the control drops the responses to bytes of this direction.
    pub(super) const fn swallows_answers_to(self, direction: Direction) -> bool {
        match direction {
            Direction::Up => self.swallows(Direction::Down),
            Direction::Down => self.swallows(Direction::Up),
        }
    }

    /// Returns true if new connections do not reach the server.
    pub(super) const fn is_black_hole(self) -> bool {
        matches!(self, Self::BlackHole | Self::HalfOpen)
    }
}

/// Observed effects of a control since it was set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// Affected connections, by their number on the link.
    pub connections: BTreeSet<u64>,
    /// Number of dropped bytes.
    pub swallowed_bytes: u64,
    /// Number of pieces that were forwarded late.
    pub late_pieces: u64,
    /// Number of bytes that a limit of the rate has delayed.
    pub late_bytes: u64,
    /// Number of connections that were reset.
    pub resets: u64,
    /// Connections with held-back bytes from the client.
    pub stalled: BTreeSet<u64>,
    /// The committed statement whose reply was dropped.
    pub cut: Option<Statement>,
}
