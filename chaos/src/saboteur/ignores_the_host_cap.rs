//! Lets one host take every attempt that a worker may have open: while it hangs, the others wait.

use super::Lie;

/// The lie.
#[derive(Debug)]
pub struct IgnoresHostCap;

impl Lie for IgnoresHostCap {
    fn caps_hosts(&self) -> bool {
        false
    }
}
