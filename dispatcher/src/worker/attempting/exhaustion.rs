//! Local exhaustion: this machine has no file descriptor, port or memory left for a connection.
//!
//! Pure except for its log line, which is limited to one per 30 seconds.

use std::time::Duration;

use tokio::time::Instant;

use crate::transport::NotSent;

/// Delay of the released event. For the same time, the worker claims nothing, or sends nothing to
/// the one affected target.
pub(in crate::worker) const EXHAUSTION_REST: Duration = Duration::from_secs(1);

/// Minimum time between two log lines.
const LOG_EVERY: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub(in crate::worker) struct Exhaustion {
    logged_at: Option<Instant>,
}

impl Exhaustion {
    /// An attempt was not sent.
    pub(in crate::worker) fn observed(&mut self, reason: &NotSent, now: Instant) {
        if self.must_log(now) {
            tracing::warn!(%reason, "local exhaustion, events are released and no attempt is counted");
        }
    }

    fn must_log(&mut self, now: Instant) -> bool {
        let is_due = self.logged_at.is_none_or(|at| now - at >= LOG_EVERY);
        if is_due {
            self.logged_at = Some(now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lasting_exhaustion_is_logged_every_30_s() {
        let start = Instant::now();
        let mut exhaustion = Exhaustion::default();
        let logged = (0..=65).filter(|s| exhaustion.must_log(start + Duration::from_secs(*s)));
        assert_eq!(logged.collect::<Vec<_>>(), [0, 30, 60]);
    }
}
