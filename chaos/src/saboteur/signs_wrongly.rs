//! Signs the body without its last byte.

use std::sync::Arc;

use super::{Lie, Saboteur};

#[derive(Debug)]
struct SignsWrongly;

impl Lie for SignsWrongly {
    fn signed_bytes(&self, body: &[u8]) -> Vec<u8> {
        body[..body.len().saturating_sub(1)].to_vec()
    }
}

/// The register's entry.
#[must_use]
pub fn saboteur() -> Saboteur {
    Saboteur {
        name: "signs_wrongly",
        what: "signs the body without its last byte",
        caught_by: "signature",
        lie: Arc::new(SignsWrongly),
    }
}
