//! What a worker does when its own machine can make no connection: nothing is claimed for a moment, and one line tells.
//!
//! Pure but for its log line, of which a long shortage gets few.

use std::time::Duration;

use tokio::time::Instant;

use crate::transport::NotSent;

/// How long what could not be sent stays away, and how long nothing is claimed, or nothing is sent to the one target.
pub(super) const SHORTAGE_REST: Duration = Duration::from_secs(1);

/// A shortage that goes on is told again after so long.
const REMIND: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub(super) struct Shortage {
    told_at: Option<Instant>,
}

impl Shortage {
    /// One more attempt could not be made.
    pub(super) fn met(&mut self, why: &NotSent, now: Instant) {
        if self.is_to_be_told(now) {
            tracing::warn!(%why, "events go back unsent, and no attempt is burnt");
        }
    }

    fn is_to_be_told(&mut self, now: Instant) -> bool {
        let is_new = self.told_at.is_none_or(|told_at| now - told_at >= REMIND);
        if is_new {
            self.told_at = Some(now);
        }
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_is_told_once_and_then_as_a_reminder() {
        let start = Instant::now();
        let mut shortage = Shortage::default();
        let told = (0..=65).filter(|s| shortage.is_to_be_told(start + Duration::from_secs(*s)));
        assert_eq!(told.collect::<Vec<_>>(), [0, 30, 60]);
    }
}
