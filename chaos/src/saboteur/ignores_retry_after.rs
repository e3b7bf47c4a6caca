//! Comes back by its own rule, whatever the receiver asked for.

use super::Lie;

/// The lie.
#[derive(Debug)]
pub struct IgnoresRetryAfter;

impl Lie for IgnoresRetryAfter {
    fn delay_ms(&self, ruled_ms: u64, _asked_ms: u64) -> u64 {
        ruled_ms
    }
}
