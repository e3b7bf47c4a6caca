//! Answers 202 and forgets every seventh event: acknowledged before it was stored.

use std::sync::Arc;

use super::{Lie, Saboteur};

#[derive(Debug)]
struct Forgets;

impl Lie for Forgets {
    fn keeps(&self, number: u64) -> bool {
        !number.is_multiple_of(7)
    }
}

/// The register's entry.
#[must_use]
pub fn saboteur() -> Saboteur {
    Saboteur {
        name: "forgets_after_202",
        what: "answers 202 and forgets every seventh event",
        caught_by: "no_loss",
        lie: Arc::new(Forgets),
    }
}
