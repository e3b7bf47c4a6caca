//! Takes a timeout for a success.

use super::{Honest, Lie, Outcome};

/// The lie.
#[derive(Debug)]
pub struct CallsTimeoutSuccess;

impl Lie for CallsTimeoutSuccess {
    fn is_success(&self, outcome: Outcome) -> bool {
        Honest.is_success(outcome) || outcome == Err("timeout")
    }
}
