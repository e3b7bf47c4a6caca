//! Time limit of one attempt. It covers every phase, and its error names the phase that it ended.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::error::DialError;
use crate::event::{AttemptResult, Outcome};

/// Instant at which an attempt ends, and the setting from which it follows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline {
    pub(super) at: Instant,
    timeout: Duration,
}

impl Deadline {
    pub(super) fn after(timeout: Duration) -> Self {
        Self { at: Instant::now() + timeout, timeout }
    }

    /// Runs one phase of the attempt.
    pub(super) async fn limit<T>(
        self,
        phase: impl FnOnce() -> String,
        work: impl Future<Output = Result<T, DialError>>,
    ) -> Result<T, DialError> {
        match timeout_at(self.at, work).await {
            Ok(result) => result,
            Err(_) => Err(Ok(self.exceeded(&phase()))),
        }
    }

    /// Returns the result of an attempt that ended in a phase, for example
    /// `connecting to 192.0.2.1:443`.
    pub(super) fn exceeded(self, phase: &str) -> AttemptResult {
        let seconds = self.timeout.as_secs_f64();
        let error = format!("no complete response within HTTP_TIMEOUT={seconds} s: {phase}");
        AttemptResult::failed(Outcome::Timeout, error)
    }

    pub(super) fn left(self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }
}
