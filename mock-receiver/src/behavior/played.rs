//! The result of a behavior: the ending of the request and the next step of the connection.
//!
//! This file is a leaf, so that the behaviors do not import their parent module.

use serde::{Deserialize, Serialize};

use crate::ending::Ending;

/// Result of a behavior.
pub(crate) struct Played {
    pub(crate) ending: Ending,
    pub(crate) next: Next,
}

/// Next step of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Read the next request.
    Again,
    /// Close after all sent bytes have arrived.
    Close,
    /// Reset.
    Reset,
    /// Take this step after a number of milliseconds.
    Then(Then, u64),
}

/// A step that no sender expects on a connection that was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    /// Send a complete response with status 200, and keep the connection.
    Response,
    /// Send a few bytes that are not HTTP, and keep the connection.
    Content,
    /// Close the connection, without having announced it.
    Close,
}

impl Played {
    pub(crate) fn answered(status: u16) -> Self {
        Self { ending: Ending::Answered { status }, next: Next::Again }
    }

    pub(crate) fn closing(ending: Ending) -> Self {
        Self { ending, next: Next::Close }
    }

    pub(crate) fn resetting(ending: Ending) -> Self {
        Self { ending, next: Next::Reset }
    }
}
