//! Limits repeated log lines. Under load, one line per failure would flood the log.

use std::time::Duration;

use tokio::time::Instant;

/// Permits one line per interval.
#[derive(Debug)]
pub(crate) struct Throttle {
    interval: Duration,
    last: Option<Instant>,
}

impl Throttle {
    pub(crate) fn new(interval: Duration) -> Self {
        Self { interval, last: None }
    }

    /// Returns true if a line is due, which the caller then logs.
    pub(crate) fn is_due(&mut self, now: Instant) -> bool {
        let is_due = self.last.is_none_or(|at| now - at >= self.interval);
        if is_due {
            self.last = Some(now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lasting_failure_is_logged_once_per_interval() {
        let start = Instant::now();
        let mut throttle = Throttle::new(Duration::from_secs(30));
        let logged = (0..=65).filter(|s| throttle.is_due(start + Duration::from_secs(*s)));
        assert_eq!(logged.collect::<Vec<_>>(), [0, 30, 60]);
    }
}
