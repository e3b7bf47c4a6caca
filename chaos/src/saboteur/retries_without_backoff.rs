//! Tries again at once.

use super::Lie;

/// The lie.
#[derive(Debug)]
pub struct Impatient;

impl Lie for Impatient {
    fn delay_ms(&self, _ruled_ms: u64, _asked_ms: u64) -> u64 {
        0
    }
}
