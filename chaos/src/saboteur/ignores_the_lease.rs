//! Claims what another worker of the same database holds.

use super::Lie;

/// The lie.
#[derive(Debug)]
pub struct IgnoresLeases;

impl Lie for IgnoresLeases {
    fn respects_claims(&self) -> bool {
        false
    }
}
