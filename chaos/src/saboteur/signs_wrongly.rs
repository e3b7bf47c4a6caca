//! Signs the body without its last byte.

use super::Lie;

/// The lie.
#[derive(Debug)]
pub struct SignsWrongly;

impl Lie for SignsWrongly {
    fn signed_bytes(&self, body: &[u8]) -> Vec<u8> {
        body[..body.len().saturating_sub(1)].to_vec()
    }
}
