//! The result of a behavior: the ending of the request and the next step of the connection.
//!
//! This file is a leaf, so that the behaviors do not import their parent module.

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
}

impl Played {
    pub(crate) fn answered(status: u16) -> Self {
        Self {
            ending: Ending::Answered { status },
            next: Next::Again,
        }
    }

    pub(crate) fn closing(ending: Ending) -> Self {
        Self {
            ending,
            next: Next::Close,
        }
    }

    pub(crate) fn resetting(ending: Ending) -> Self {
        Self {
            ending,
            next: Next::Reset,
        }
    }
}
