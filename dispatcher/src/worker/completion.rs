//! Data that passes between the loop and the phases: claimed events, futures and attempts.

use std::pin::Pin;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::Instant;

use crate::event::{AttemptResult, Claim, ClaimKey, Release};
use crate::host::HostKey;
use crate::transport::NotSent;

/// A future that the worker owns.
pub(super) type Work<W> = Pin<Box<dyn Future<Output = Completion<W>> + Send>>;

/// Applies the result of a finished future to the worker.
pub(super) type Completion<W> = Box<dyn FnOnce(&mut W) + Send>;

pub(super) struct Attempted {
    pub(super) key: ClaimKey,
    pub(super) host: HostKey,
    pub(super) failure_count: u32,
    pub(super) started: Instant,
    /// Start of the attempt, by the clock of the database.
    pub(super) started_at: DateTime<Utc>,
    pub(super) duration: Duration,
    /// `None` if the attempt panicked.
    pub(super) result: Option<Result<AttemptResult, NotSent>>,
}

/// A claim with its host and its clocks.
#[derive(Debug)]
pub(super) struct ClaimedEvent {
    pub(super) claim: Claim,
    pub(super) host: HostKey,
    pub(super) times: ClaimTimes,
}

/// The clocks of a claim. All events of one claim have the same.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClaimTimes {
    /// `now()` of the claim, by the clock of the database.
    pub(super) claimed_at: DateTime<Utc>,
    pub(super) sent_at: Instant,
    pub(super) received_at: Instant,
}

impl ClaimedEvent {
    /// Returns the guaranteed rest of a lease of this duration. It counts from before the claim was
    /// sent, so the lease ends later.
    pub(super) fn left_of(&self, lease: Duration, now: Instant) -> Duration {
        lease.saturating_sub(now - self.times.sent_at)
    }

    pub(super) fn release(&self, delay: Duration) -> Release {
        Release { key: self.claim.key, delay }
    }
}
