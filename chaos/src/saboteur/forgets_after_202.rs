//! Answers 202 and forgets every seventh event.

use super::Lie;

/// The lie.
#[derive(Debug)]
pub struct Forgets;

impl Lie for Forgets {
    fn keeps(&self, number: u64) -> bool {
        !number.is_multiple_of(7)
    }
}
