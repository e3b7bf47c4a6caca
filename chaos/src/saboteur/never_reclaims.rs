//! Never takes back what a killed worker held.

use super::Lie;

/// The lie.
#[derive(Debug)]
pub struct NeverReclaims;

impl Lie for NeverReclaims {
    fn reclaims(&self) -> bool {
        false
    }
}
