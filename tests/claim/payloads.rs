//! Large payloads: a claim does not return them, and they are fetched in pieces.

use dispatcher::event::{Claim, EventId, NewEvent, Release, Target};
use dispatcher::store::{ClaimLimit, NewRow, Store};

use crate::support::fixture::{Bench, LEASE, WORKER};

const RETURNED_MAX: usize = 256 * 1024;

async fn accept(bench: &Bench, size: usize) -> Vec<u8> {
    let digits: Vec<u8> = (0..size).map(|at| b'1' + (at % 7) as u8).collect();
    let event = NewEvent {
        id: EventId::fresh(),
        payload: digits.clone(),
        target: Target::Given("http://127.0.0.1:9/".into()),
        idempotency_key: None,
    };
    bench
        .store
        .insert(&[NewRow { event: &event, token: None }], None)
        .await
        .expect("the insert succeeds");
    digits
}

async fn claim(bench: &Bench, bytes: usize) -> Vec<Claim> {
    let limit = ClaimLimit { bytes, ..ClaimLimit::of(10) };
    let claimed = bench.store.claim(WORKER, LEASE, limit).await.unwrap();
    let mut claims = claimed.claims;
    claims.sort_by_key(|claim| claim.key.id);
    claims
}

#[tokio::test]
async fn large_payload_is_not_returned_by_a_claim_but_in_pieces() {
    let bench = Bench::new().await;
    let mut payloads = Vec::new();
    for size in [RETURNED_MAX, RETURNED_MAX + 1] {
        payloads.push(accept(&bench, size).await);
    }
    let claims = claim(&bench, 8 << 20).await;
    assert_eq!((claims[0].unfetched, &claims[0].payload), (0, &payloads[0]));
    let large = &claims[1];
    assert_eq!((large.unfetched, large.payload.len()), (RETURNED_MAX + 1, 0));
    for (from, length) in [(0, 10), (5, 100_000), (RETURNED_MAX - 3, 100)] {
        let piece = bench.store.payload_piece(large.key, from, length).await;
        let end = (from + length).min(large.unfetched);
        assert!(piece.unwrap().as_deref() == Some(&payloads[1][from..end]));
    }
}

// After timeouts, claims have smaller limits. Then also smaller payloads are fetched, so that the
// next claim is small.
#[tokio::test]
async fn payload_over_the_limit_of_the_claim_is_not_returned() {
    let bench = Bench::new().await;
    for size in [90, 101, 90, 90] {
        accept(&bench, size).await;
    }
    let claims = claim(&bench, 100).await;
    let sizes: Vec<_> = claims.iter().map(|claim| claim.payload.len()).collect();
    assert_eq!(sizes, [90, 0, 90], "the limit ends the claim at 180 bytes");
}

#[tokio::test]
async fn payload_is_not_fetched_after_the_lease_has_ended() {
    let bench = Bench::new().await;
    accept(&bench, RETURNED_MAX + 1).await;
    let claim = bench.claim_one().await;
    let release = Release { key: claim.key, delay: LEASE };
    bench.store.release(vec![release]).await.unwrap();
    let piece = bench.store.payload_piece(claim.key, 0, 10).await;
    assert_eq!(piece.unwrap(), None);
}
