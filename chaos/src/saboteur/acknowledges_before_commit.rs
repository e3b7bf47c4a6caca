//! Answers 202 first and stores the event a little later, which a kill in between prevents.

use std::time::Duration;

use super::Lie;

/// Long enough that a kill strands events for certain.
const COMMIT_AFTER: Duration = Duration::from_secs(1);

/// The lie.
#[derive(Debug)]
pub struct AcknowledgesFirst;

impl Lie for AcknowledgesFirst {
    fn commits_after(&self) -> Option<Duration> {
        Some(COMMIT_AFTER)
    }
}
