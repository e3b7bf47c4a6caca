//! Compares the dispatcher's store with minimal SQL, alternately and on the same server.
//!
//! A busy machine slows both, so the ratio of adjacent measurements is stable when rates are not.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

/// Maximum of leased rows, about as many as one process has with raised limits.
const LEASED_ROWS_MAX: usize = 5_000;

/// Rows of each side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// Least number of due rows without a lease, beyond those that a round claims.
    pub due: usize,
    /// Rows that become due after the benchmark.
    pub future: usize,
}

/// One side. Both commit synchronously.
pub trait Side {
    /// Prepares `rows + spare` due rows without a lease. This is not measured.
    fn provide(&self, rows: usize, spare: usize) -> impl Future<Output = ()>;

    /// Claims a batch of due rows and settles them if `settle` is set. Returns the number of rows.
    fn claim(&self, batch: usize, settle: bool) -> impl Future<Output = usize>;
}

/// Size and concurrency of the claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Rows per claim.
    pub batch: usize,
    /// Concurrent claims.
    pub workers: usize,
    /// Claimed rows are also settled.
    pub settle: bool,
}

/// Time of one side for a number of batches.
pub async fn timed(side: &impl Side, shape: Shape, batches: u64) -> Duration {
    let mut left = usize::try_from(batches).expect("the number of batches fits into a usize");
    let a_round = (LEASED_ROWS_MAX / shape.batch).max(shape.workers);
    let mut measured = Duration::ZERO;
    while left > 0 {
        let round = left.min(a_round);
        // A claim skips the locked rows of others, and a lost reply leaves its rows leased. So more
        // rows must be due than are claimed.
        side.provide(round * shape.batch, 4 * shape.workers * shape.batch).await;
        let began = Instant::now();
        let workers = (0..shape.workers).map(|worker| async move {
            let share = round / shape.workers + usize::from(worker < round % shape.workers);
            for _ in 0..share {
                let claimed = side.claim(shape.batch, shape.settle).await;
                assert_eq!(claimed, shape.batch, "the backlog was too small");
            }
        });
        join_all(workers).await;
        measured += began.elapsed();
        left -= round;
    }
    measured
}
