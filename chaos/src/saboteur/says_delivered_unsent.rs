//! Calls every fifth event delivered without sending it.

use super::Lie;

/// The lie.
#[derive(Debug)]
pub struct SaysDelivered;

impl Lie for SaysDelivered {
    fn sends(&self, number: u64) -> bool {
        !number.is_multiple_of(5)
    }
}
