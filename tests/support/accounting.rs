//! An event's row by named columns, and the ends of a lease, for the tests of the accounting table.

use std::time::Duration;

use dispatcher::event::{Claim, Disposition, EventId, Outcome, Reason, Settlement};
use dispatcher::store::{DueRange, Reclaim, ReclaimCause};
use sqlx::FromRow;

use super::fixture::{Bench, settlement};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Pending,
    Delivered,
    Dead,
}

/// The columns that a transition may change. The times are not included, because they differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) status: Status,
    pub(crate) reason: Option<Reason>,
    pub(crate) attempts: i32,
    pub(crate) failures: i32,
    pub(crate) abandons: i32,
    pub(crate) round: i32,
    /// The worker id of the lease. A constraint of the table binds the other lease columns to it.
    pub(crate) leased_by: Option<i64>,
}

impl Row {
    /// An event that was accepted and not yet claimed.
    pub(crate) fn new() -> Self {
        Self {
            status: Status::Pending,
            reason: None,
            attempts: 0,
            failures: 0,
            abandons: 0,
            round: 0,
            leased_by: None,
        }
    }

    pub(crate) async fn read(bench: &Bench, id: EventId) -> Self {
        let sql = "select status, reason, attempt_count, failure_count, abandon_count, round, \
                   holder from webhook_events where id = $1";
        let stored: Stored = sqlx::query_as(sql).bind(id.0).fetch_one(&bench.pool).await.unwrap();
        stored.into()
    }
}

#[derive(FromRow)]
struct Stored {
    status: String,
    reason: Option<String>,
    attempt_count: i32,
    failure_count: i32,
    abandon_count: i32,
    round: i32,
    holder: Option<i64>,
}

impl From<Stored> for Row {
    fn from(stored: Stored) -> Self {
        let status = match stored.status.as_str() {
            "pending" => Status::Pending,
            "delivered" => Status::Delivered,
            "dead" => Status::Dead,
            other => panic!("unknown status {other}"),
        };
        let reason = stored.reason.map(|text| {
            let reasons = [Reason::Exhausted, Reason::Gone, Reason::Abandoned];
            let known = reasons.into_iter().find(|known| known.as_str() == text);
            known.unwrap_or_else(|| panic!("unknown reason {text}"))
        });
        Self {
            status,
            reason,
            attempts: stored.attempt_count,
            failures: stored.failure_count,
            abandons: stored.abandon_count,
            round: stored.round,
            leased_by: stored.holder,
        }
    }
}

/// A settlement for a timeout that is retried after `delay`.
pub(crate) fn failed(claim: &Claim, delay: Duration) -> Settlement {
    settlement(claim, Outcome::Timeout, Disposition::RetryAfter(delay))
}

/// Two delays, so the third abandoned attempt in a row ends the event. The delays are zero, so
/// that a test can claim the event again immediately.
pub(crate) fn reclaim(cause: ReclaimCause) -> Reclaim {
    Reclaim {
        cause,
        delays: vec![Duration::ZERO; 2],
        factors: vec![1.0; 100],
        range: DueRange::ALL,
    }
}

/// Moves the end of every lease into the past.
pub(crate) async fn expire(bench: &Bench) {
    let sql = "update webhook_events set lease_until = now() - interval '1 second' \
               where lease_token is not null";
    sqlx::query(sql).execute(&bench.pool).await.unwrap();
}
