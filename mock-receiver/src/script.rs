//! Which behavior a request gets: a script is a function of what was seen of the request.
//!
//! The harness brings its own; the demo's is here. A script must not depend on time or on
//! anything that two runs of one seed would not share.

mod demo;

use std::sync::Arc;

pub use demo::Demo;

use crate::behavior::Behavior;

/// Decides the behavior of every request whose signature is valid.
pub type Script = Arc<dyn Fn(&Seen) -> Behavior + Send + Sync>;

/// What a script may look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The ordinal in the path `/webhook/{ordinal}`.
    pub ordinal: Option<u64>,
    /// The header `webhook-attempt`.
    pub attempt: Option<u32>,
    /// The header `webhook-id`.
    pub id: String,
    /// How many properly signed requests came for this ordinal (or id), this one included.
    pub arrival: u32,
}

/// The script that gives every request the same behavior.
pub fn always(behavior: Behavior) -> Script {
    Arc::new(move |_| behavior.clone())
}
