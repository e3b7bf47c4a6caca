//! Batches of releases.

use std::time::Duration;

use dispatcher::event::{Claim, Release};
use dispatcher::store::{RELEASE_BATCH_MAX, Store};

use crate::support::fixture::Bench;

fn release(claim: &Claim) -> Release {
    Release { key: claim.key, delay: Duration::ZERO }
}

// The reply to the first release was lost, so it is sent again beside that of the next claim. The
// statement compares one token per event.
#[tokio::test]
async fn two_releases_of_one_event_in_a_batch_end_its_lease() {
    let bench = Bench::new().await;
    bench.accept(1).await;
    let mut claims = Vec::new();
    for _ in 0..8 {
        claims.push(bench.claim_one().await);
        let releases = claims.iter().map(release).collect();
        assert_eq!(bench.store.release(releases).await.unwrap(), 1);
    }
}

#[tokio::test]
async fn more_releases_than_a_batch_are_all_written() {
    let bench = Bench::new().await;
    let count = RELEASE_BATCH_MAX + 10;
    let insert = "insert into webhook_events (id, target_url, target_given, payload, status, round, attempt_count,
                    failure_count, abandon_count, next_retry_at, created_at)
                select gen_random_uuid(), 'http://x/', true, '{}', 'pending', 0, 0, 0, 0, now(), now()
                from generate_series(1, $1)";
    let insert = sqlx::query(insert).bind(i32::try_from(count).unwrap());
    insert.execute(&bench.pool).await.unwrap();
    let mut claims = Vec::new();
    while claims.len() < count {
        claims.extend(bench.claim(count).await);
    }
    let releases = claims.iter().map(release).collect();
    assert_eq!(bench.store.release(releases).await.unwrap(), count);
}
