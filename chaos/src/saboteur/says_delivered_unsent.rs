//! Calls every fifth event delivered without sending it.

use std::sync::Arc;

use super::{Lie, Saboteur};

#[derive(Debug)]
struct SaysDelivered;

impl Lie for SaysDelivered {
    fn sends(&self, number: u64) -> bool {
        !number.is_multiple_of(5)
    }
}

/// The register's entry.
#[must_use]
pub fn saboteur() -> Saboteur {
    Saboteur {
        name: "says_delivered_unsent",
        what: "calls every fifth event delivered without sending it",
        caught_by: "state_agrees",
        lie: Arc::new(SaysDelivered),
    }
}
