//! Scripts: functions that choose the behavior of a request.
//!
//! The harness has its own script, and the one of the demo is in [`crate::demo`]. A script must not
//! depend on time or on other state that differs between two runs of one seed.

use std::sync::Arc;

use crate::behavior::Behavior;

/// Chooses the behavior of every request with a valid signature.
pub type Script = Arc<dyn Fn(&Seen) -> Behavior + Send + Sync>;

/// The parts of a request on which a script may depend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Ordinal in the path `/webhook/{ordinal}`.
    pub ordinal: Option<u64>,
    /// Value of the header `webhook-attempt`.
    pub attempt: Option<u32>,
    /// Value of the header `webhook-id`.
    pub id: String,
    /// Number of requests with a valid signature for this ordinal or id, including this one.
    pub arrival: u32,
}

/// Returns a script that chooses the same behavior for every request.
pub fn always(behavior: Behavior) -> Script {
    Arc::new(move |_| behavior.clone())
}
