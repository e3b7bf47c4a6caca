//! Numbers the first retry as the first attempt again.

use super::Lie;

/// The lie.
#[derive(Debug)]
pub struct CountsAgain;

impl Lie for CountsAgain {
    fn counts_attempt(&self, failures: u32) -> bool {
        failures != 1
    }
}
