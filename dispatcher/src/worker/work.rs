//! The futures that a worker owns, what each comes back with, and the log lines that tell an event's story.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::FutureExt;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;
use url::Url;

use super::hosts::HostKey;
use crate::event::{
    AttemptResult, Claim, ClaimKey, Disposition, Release, Settled, Settlement, WorkerId,
};
use crate::signature::Signer;
use crate::store::{ClaimLimit, Claimed, Reclaim, ReclaimCause, Reclaimed, Store, StoreError};
use crate::transport::{NotSent, Request, Transport};

/// Something under way.
pub(super) type Work = Pin<Box<dyn Future<Output = Done> + Send>>;

/// How it ended.
pub(super) enum Done {
    Attempted(Attempted),
    Claimed {
        asked: ClaimLimit,
        sent_at: Instant,
        claimed: Result<Claimed, StoreError>,
    },
    /// The worker was told to stop before it could claim.
    NotClaimed,
    NextDue(Result<Option<Duration>, StoreError>),
    Settled(Vec<Settlement>, Result<Vec<Settled>, StoreError>),
    Released(Vec<Release>, Result<usize, StoreError>),
    Absent(Result<Vec<WorkerId>, StoreError>),
    Reclaimed(ReclaimCause, Result<Vec<Reclaimed>, StoreError>),
    Forgotten(WorkerId, Result<(), StoreError>),
}

/// A claim with the clocks that go with it.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) claim: Claim,
    host: HostKey,
    /// The database's clock when the claim was made; ours before it was sent, and when it had come.
    claimed_at: DateTime<Utc>,
    sent_at: Instant,
    received_at: Instant,
    lease: Duration,
}

/// An attempt that ended.
pub(super) struct Attempted {
    pub(super) key: ClaimKey,
    pub(super) host: HostKey,
    pub(super) failure_count: u32,
    pub(super) started: Instant,
    pub(super) started_at: DateTime<Utc>,
    pub(super) duration: Duration,
    /// None if the attempt panicked.
    pub(super) result: Option<Result<AttemptResult, NotSent>>,
}

impl Held {
    pub(super) fn new(claim: Claim, now: DateTime<Utc>, sent_at: Instant, lease: Duration) -> Self {
        let host = host_of(&claim.target_url);
        Self {
            claim,
            host,
            claimed_at: now,
            sent_at,
            received_at: Instant::now(),
            lease,
        }
    }

    pub(super) fn host(&self) -> HostKey {
        HostKey::clone(&self.host)
    }

    pub(super) fn lease_left(&self, now: Instant) -> Duration {
        self.lease.saturating_sub(now - self.sent_at)
    }

    pub(super) fn release(&self, delay: Duration) -> Release {
        Release {
            key: self.claim.key,
            delay,
        }
    }
}

/// Host and port; the default ports count as named.
fn host_of(target_url: &str) -> HostKey {
    let named = Url::parse(target_url).ok().and_then(|url| {
        Some(format!(
            "{}:{}",
            url.host_str()?,
            url.port_or_known_default()?
        ))
    });
    named.unwrap_or_default().into()
}

pub(super) fn claim(
    store: impl Store,
    holder: WorkerId,
    lease: Duration,
    limit: ClaimLimit,
    stop: CancellationToken,
) -> Work {
    Box::pin(async move {
        tokio::select! {
            biased;
            () = stop.cancelled() => return Done::NotClaimed,
            () = store.present() => {}
        }
        let sent_at = Instant::now();
        let claimed = store.claim(holder, lease, limit).await;
        Done::Claimed {
            asked: limit,
            sent_at,
            claimed,
        }
    })
}

pub(super) fn attempt(transport: impl Transport, signer: Signer, held: Held) -> Work {
    let key = held.claim.key;
    let span = tracing::info_span!("attempt", event.id = %key.id, attempt = key.number);
    let attempt = async move {
        let started = Instant::now();
        // Counted from the reply, not from the request: a claim that waited for its connection would put the attempt into
        // the future, behind its own settle. So it may be early, by no more than the reply's way.
        let started_at = held.claimed_at + (started - held.received_at);
        let id = key.id.to_string();
        let signature = signer.sign(&id, started_at.timestamp(), &held.claim.payload);
        let request = Request {
            id: key.id,
            number: key.number,
            started_at,
            signature,
            target_url: held.claim.target_url,
            payload: Bytes::from(held.claim.payload),
        };
        let result = AssertUnwindSafe(transport.attempt(request))
            .catch_unwind()
            .await;
        Done::Attempted(Attempted {
            key,
            host: held.host,
            failure_count: held.claim.failure_count,
            started,
            started_at,
            duration: started.elapsed(),
            result: result.ok(),
        })
    };
    Box::pin(attempt.instrument(span))
}

pub(super) fn next_due(store: impl Store, after: DateTime<Utc>) -> Work {
    Box::pin(async move { Done::NextDue(store.next_due(after).await) })
}

pub(super) fn settle(store: impl Store, batch: Vec<Settlement>) -> Work {
    Box::pin(async move {
        let settled = store.settle(batch.clone()).await;
        Done::Settled(batch, settled)
    })
}

pub(super) fn release(store: impl Store, releases: Vec<Release>) -> Work {
    Box::pin(async move {
        let released = store.release(releases.clone()).await;
        Done::Released(releases, released)
    })
}

pub(super) fn absent_workers(store: impl Store, own: WorkerId) -> Work {
    Box::pin(async move { Done::Absent(store.absent_workers(own).await) })
}

pub(super) fn reclaim(store: impl Store, reclaim: Reclaim) -> Work {
    let cause = reclaim.cause;
    Box::pin(async move { Done::Reclaimed(cause, store.reclaim(reclaim).await) })
}

pub(super) fn forget(store: impl Store, holder: WorkerId) -> Work {
    Box::pin(async move { Done::Forgotten(holder, store.forget(holder).await) })
}

/// When the event of a settlement is due again, if it is.
pub(super) fn delay_of(settlement: &Settlement) -> Option<Duration> {
    match settlement.disposition {
        Disposition::RetryAfter(delay) => Some(delay),
        Disposition::Delivered | Disposition::Dead(_) => None,
    }
}

/// One line an attempt: its number, its outcome, and what comes next.
pub(super) fn log_settled(settlement: &Settlement, settled: Settled) {
    let (key, outcome) = (settlement.key, &settlement.result.outcome);
    let elapsed_ms = u64::try_from(settlement.duration.as_millis()).unwrap_or(u64::MAX);
    let (id, attempt, status) = (key.id, key.number, outcome.status());
    let (word, error) = (outcome.as_str(), settlement.result.error.as_deref());
    if settled == Settled::LeaseLost {
        tracing::warn!(event.id = %id, attempt, outcome = word, status, elapsed_ms,
            "lease lost: somebody else ended it, this result changes nothing");
        return;
    }
    match settlement.disposition {
        Disposition::Delivered => {
            tracing::info!(event.id = %id, attempt, outcome = word, status, elapsed_ms, "delivered");
        }
        Disposition::RetryAfter(delay) => {
            let retry_in_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
            tracing::info!(event.id = %id, attempt, outcome = word, status, error, elapsed_ms, retry_in_ms,
                "failed, will be retried");
        }
        Disposition::Dead(reason) => {
            let reason = reason.as_str();
            tracing::warn!(event.id = %id, attempt, outcome = word, status, error, elapsed_ms, reason, "dead");
        }
    }
}

/// One line an abandoned attempt.
pub(super) fn log_reclaimed(lease: &Reclaimed, cause: ReclaimCause) {
    let (id, attempt) = (lease.key.id, lease.key.number);
    let cause = match cause {
        ReclaimCause::Expired => "its lease ran out",
        ReclaimCause::Gone(_) => "its worker is gone",
    };
    let in_a_row = lease.abandon_count;
    if lease.dead {
        tracing::warn!(event.id = %id, attempt, outcome = "abandoned", cause, in_a_row, "dead");
    } else {
        tracing::info!(event.id = %id, attempt, outcome = "abandoned", cause, in_a_row,
            worker.holder = %lease.holder, "reclaimed, will be sent again");
    }
}
