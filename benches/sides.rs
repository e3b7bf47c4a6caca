//! A comparison: the dispatcher's store and the plainest SQL that does the same, in turns, on the same server.
//!
//! In turns, because a busy machine slows both alike: the ratio of neighbours holds where rates do not.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

/// Rows under a lease at once, at most: about what one process holds with raised limits.
const LEASED_ROWS_MAX: usize = 5_000;

/// One of the two. Both sides commit synchronously.
pub trait Side {
    /// Makes sure, unmeasured, that so many rows are due, and some to spare, and that none of them is leased.
    fn provide(&self, rows: usize, spare: usize) -> impl Future<Output = ()>;

    /// Takes a batch of due rows, and ends them too if `settle` says so. Tells how many there were.
    fn take(&self, batch: usize, settle: bool) -> impl Future<Output = usize>;
}

/// What is done, by how many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Rows a claim.
    pub batch: usize,
    /// Claims under way at once.
    pub workers: usize,
    /// Whether claimed rows are settled as well.
    pub settle: bool,
}

/// How long one side takes for so many batches.
pub async fn timed(side: &impl Side, shape: Shape, batches: u64) -> Duration {
    let mut left = usize::try_from(batches).expect("batches are counted in thousands");
    let a_round = (LEASED_ROWS_MAX / shape.batch).max(shape.workers);
    let mut measured = Duration::ZERO;
    while left > 0 {
        let round = left.min(a_round);
        // Rows that one claim has locked are skipped by the others, and a lost reply takes its rows along: there must be
        // some to spare.
        side.provide(round * shape.batch, 4 * shape.workers * shape.batch)
            .await;
        let began = Instant::now();
        let workers = (0..shape.workers).map(|worker| async move {
            let share = round / shape.workers + usize::from(worker < round % shape.workers);
            for _ in 0..share {
                let taken = side.take(shape.batch, shape.settle).await;
                assert_eq!(taken, shape.batch, "the backlog was deep enough");
            }
        });
        join_all(workers).await;
        measured += began.elapsed();
        left -= round;
    }
    measured
}
