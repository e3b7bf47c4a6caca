//! Rows, counts and ways to end a lease, for the tests of the accounting table.

use std::time::Duration;

use dispatcher::event::{Claim, Disposition, Outcome, Settlement};
use dispatcher::store::{Reclaim, ReclaimCause};

use super::fixture::{Bench, settlement};

/// What the accounting table counts.
pub(crate) const COUNTS: &str =
    "status, reason, attempt_count, failure_count, abandon_count, round";
/// Whether there is a lease, and whose.
pub(crate) const LEASED: &str =
    "lease_token is not null, lease_until is not null, claimed_at is not null, holder";

/// Values of a row as text; `-` is null.
pub(crate) fn text<const N: usize>(values: [&str; N]) -> Vec<Option<String>> {
    values
        .iter()
        .map(|value| (*value != "-").then(|| (*value).to_owned()))
        .collect()
}

/// A settled failure.
pub(crate) fn failed(claim: &Claim, delay: Duration) -> Settlement {
    settlement(claim, Outcome::Timeout, Disposition::RetryAfter(delay))
}

/// Three abandonments are one too many; no delay, so that the next claim follows at once.
pub(crate) fn reclaim(cause: ReclaimCause) -> Reclaim {
    Reclaim {
        cause,
        delays: vec![Duration::ZERO; 2],
        jitters: vec![0.0; 100],
    }
}

/// Lets every lease run out now.
pub(crate) async fn expire(bench: &Bench) {
    let sql = "update webhook_events set lease_until = now() - interval '1 second' where lease_token is not null";
    sqlx::query(sql).execute(&bench.pool).await.unwrap();
}
