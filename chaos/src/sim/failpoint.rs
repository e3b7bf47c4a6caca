//! Hits of failpoints, as a traced run returns them.

use super::fault::Point;

/// One pass of a call through a failpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailpointHit {
    /// The failpoint.
    pub failpoint: Point,
    /// Number of this hit, from 1, over all workers.
    pub nth: u32,
    /// True if a fault struck at this hit.
    pub struck: bool,
}
