//! Health of the worker of this process, as `/readyz` reports it.
//!
//! The worker and its presence write it, and the API reads it. It decides nothing about deliveries.
//! Pure: every function takes the time.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Time without presence, or without a completed iteration of the worker loop, after which a
/// process is not ready.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// Health of the worker. A process without a worker has no fault.
#[derive(Debug, Default)]
pub struct WorkerHealth(Mutex<Signs>);

#[derive(Debug, Default)]
struct Signs {
    /// `None` while the presence is held, or if it is off.
    presence_missing_since: Option<Instant>,
    /// `None` before the worker starts.
    iterated_at: Option<Instant>,
}

impl WorkerHealth {
    /// The worker loop has completed an iteration, or starts.
    pub fn iterated(&self, now: Instant) {
        self.0.lock().iterated_at = Some(now);
    }

    /// The presence is held, or is not held. Repeated calls change nothing.
    pub fn presence(&self, is_held: bool, now: Instant) {
        let mut signs = self.0.lock();
        let since = signs.presence_missing_since.unwrap_or(now);
        signs.presence_missing_since = (!is_held).then_some(since);
    }

    /// Returns the reason why a process with this worker is not ready.
    pub fn fault(&self, now: Instant) -> Option<&'static str> {
        let signs = self.0.lock();
        let is_long_ago = |at: Option<Instant>| at.is_some_and(|at| now - at >= SILENCE_MAX);
        if is_long_ago(signs.presence_missing_since) {
            return Some(
                "the worker has not held its presence lock for 5 s, so it claims no event",
            );
        }
        is_long_ago(signs.iterated_at)
            .then_some("the worker loop has completed no iteration for 5 s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALMOST: Duration = Duration::from_millis(4_999);

    #[test]
    fn process_without_a_worker_has_no_fault() {
        let health = WorkerHealth::default();
        assert_eq!(health.fault(Instant::now() + 10 * SILENCE_MAX), None);
    }

    #[test]
    fn presence_not_held_for_5_s_is_a_fault_until_it_is_held() {
        let (start, health) = (Instant::now(), WorkerHealth::default());
        health.presence(false, start);
        health.presence(false, start + ALMOST);
        assert_eq!(health.fault(start + ALMOST), None);
        let fault = health.fault(start + SILENCE_MAX);
        assert!(fault.is_some_and(|fault| fault.contains("presence")));
        health.presence(true, start + SILENCE_MAX);
        assert_eq!(health.fault(start + 10 * SILENCE_MAX), None);
        health.presence(false, start + 10 * SILENCE_MAX);
        assert_eq!(health.fault(start + 10 * SILENCE_MAX + ALMOST), None);
    }

    #[test]
    fn worker_loop_without_an_iteration_for_5_s_is_a_fault() {
        let (start, health) = (Instant::now(), WorkerHealth::default());
        health.iterated(start);
        assert_eq!(health.fault(start + ALMOST), None);
        let fault = health.fault(start + SILENCE_MAX);
        assert!(fault.is_some_and(|fault| fault.contains("loop")));
        health.iterated(start + SILENCE_MAX);
        assert_eq!(health.fault(start + SILENCE_MAX + ALMOST), None);
    }
}
