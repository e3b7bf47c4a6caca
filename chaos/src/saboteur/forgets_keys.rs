//! Takes every post for a new event, whatever its idempotency key.

use super::Lie;

/// The lie.
#[derive(Debug)]
pub struct ForgetsKeys;

impl Lie for ForgetsKeys {
    fn remembers_keys(&self) -> bool {
        false
    }
}
