//! Takes what came of a body that was broken off for the whole of it.

use super::Lie;

/// The lie.
#[derive(Debug)]
pub struct TakesHalf;

impl Lie for TakesHalf {
    fn wants_whole_bodies(&self) -> bool {
        false
    }
}
