//! Limits of a claim: the bytes of one reply, and the start of the scan.

use chrono::{DateTime, Utc};
use dispatcher::event::WorkerId;
use dispatcher::store::{ClaimLimit, Store};

use crate::support::fixture::{Bench, LEASE};

// Each payload has nine bytes. A claim ends with the event that reaches the limit, and the next
// claim continues in the order of due times.
#[tokio::test]
async fn claim_stops_at_its_byte_limit_and_leaves_the_rest() {
    let bench = Bench::new().await;
    let ids = bench.accept(6).await;
    let larger = "update webhook_events set payload = '\"7 bytes\"'";
    sqlx::query(larger).execute(&bench.pool).await.unwrap();
    let mut taken = Vec::new();
    for (bytes, count) in [(19, 3), (9, 1), (1_000, 2)] {
        let limit = ClaimLimit { bytes, ..ClaimLimit::of(10) };
        let claimed = bench.store.claim(WorkerId(7), LEASE, limit).await.unwrap();
        assert_eq!(claimed.claims.len(), count, "claim of at most {bytes} bytes");
        let mut claimed: Vec<_> = claimed.claims.iter().map(|claim| claim.key.id).collect();
        claimed.sort();
        taken.extend(claimed);
    }
    assert_eq!(taken, ids);
}

// The worker sets the scan start. Events that were due before it wait for a claim without one.
#[tokio::test]
async fn claim_skips_events_that_were_due_before_its_scan_start() {
    let bench = Bench::new().await;
    let ids = bench.accept(3).await;
    let older =
        "update webhook_events set next_retry_at = next_retry_at - interval '1 h' where id = $1";
    let older = sqlx::query(older).bind(ids[1].0);
    older.execute(&bench.pool).await.unwrap();
    let due = "select next_retry_at from webhook_events where id = $1";
    let due = sqlx::query_scalar(due).bind(ids[0].0);
    let first: DateTime<Utc> = due.fetch_one(&bench.pool).await.unwrap();
    let limit = ClaimLimit { due_from: Some(first), ..ClaimLimit::of(10) };
    let claimed = bench.store.claim(WorkerId(7), LEASE, limit).await.unwrap();
    let mut taken: Vec<_> = claimed.claims.iter().map(|claim| claim.key.id).collect();
    taken.sort();
    assert_eq!((taken, claimed.first_due), (vec![ids[0], ids[2]], Some(first)));
    assert_eq!(bench.claim_one().await.key.id, ids[1]);
}
