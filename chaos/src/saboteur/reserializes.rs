//! Parses the payload and writes it again.

use super::Lie;

/// The lie.
#[derive(Debug)]
pub struct Reserializes;

impl Lie for Reserializes {
    fn body(&self, payload: &str) -> String {
        let parsed = serde_json::from_str::<serde_json::Value>(payload);
        parsed.map_or_else(|_| payload.to_owned(), |value| value.to_string())
    }
}
