//! Takes a 500 for a success.

use super::{Honest, Lie, Outcome};

/// The lie.
#[derive(Debug)]
pub struct Calls500Success;

impl Lie for Calls500Success {
    fn is_success(&self, outcome: Outcome) -> bool {
        Honest.is_success(outcome) || outcome == Ok(500)
    }
}
