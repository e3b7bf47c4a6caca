//! Stores posted events in batches: each batch is one statement and one commit.
//!
//! Posts that arrive while a batch is on its way form the next batch, so the size of the batches
//! follows the load, and a post never waits for a timer. [`queue`] decides what is sent and when.
//! The task here owns the statements: a client that leaves ends none.

mod queue;

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc, oneshot};
use tokio::task::yield_now;
use tokio::time::{Instant, timeout_at};

use self::queue::{Batch, Item, Queue};
use crate::event::NewEvent;
use crate::metrics::Metrics;
use crate::store::{Inserted, Store, StoreError, extra_time};

/// Maximum number of posts that wait for their batch. A further one gets a 503.
const POSTS_MAX: usize = 8_192;

/// Maximum wait of a post for its batch and the commit, so that a 503 is sent within two seconds. A
/// statement is given up a little earlier, and its error says more.
const WAIT_MAX: Duration = Duration::from_millis(1_600);

const OPERATION: &str = "storing an event";

/// Accepts events for the batches. Clones share them.
#[derive(Clone, Debug)]
pub struct Acceptor {
    posts: mpsc::Sender<Item<Waiter>>,
    waiting: Gauge,
}

/// The client of a post.
#[derive(Debug)]
struct Waiter {
    result: oneshot::Sender<Result<Inserted, StoreError>>,
    /// The memory of the event, as long as it is here.
    _reserved: Option<OwnedSemaphorePermit>,
    _counted: Counted,
}

/// Counts a post in the gauge as long as it waits.
#[derive(Debug)]
struct Counted(Gauge);

impl Counted {
    fn new(waiting: &Gauge) -> Self {
        waiting.inc();
        Self(waiting.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Returns the entry of the batches and the task that sends them to `store`. `connections` is the
/// number of connections of the API. Each commit notifies `stored`. The task ends when every
/// acceptor is dropped and each post is answered. If it is dropped, open posts get an unknown
/// outcome.
pub fn acceptor<S: Store>(
    store: S,
    connections: u32,
    stored: Arc<Notify>,
    metrics: &Metrics,
) -> (Acceptor, impl Future<Output = ()> + Send + use<S>) {
    let (posts, arriving) = mpsc::channel(POSTS_MAX);
    let acceptor = Acceptor { posts, waiting: metrics.posts_waiting.clone() };
    (acceptor, send_batches(store, Queue::new(connections), arriving, stored))
}

impl Acceptor {
    /// Stores an event in one durable commit. `reserved` is kept until the event is written or
    /// refused, also if this future is dropped.
    ///
    /// # Errors
    /// The error of the batch. Too many posts wait, or no result within 1.6 s plus the extra time
    /// of a large payload: the event may then still be stored.
    pub async fn store(
        &self,
        event: NewEvent,
        reserved: Option<OwnedSemaphorePermit>,
    ) -> Result<Inserted, StoreError> {
        let deadline = Instant::now() + WAIT_MAX + extra_time(event.payload.len());
        let (result, answer) = oneshot::channel();
        let counted = Counted::new(&self.waiting);
        let waiter = Waiter { result, _reserved: reserved, _counted: counted };
        self.posts
            .try_send(Item { event, deadline, waiter })
            .map_err(|_| unavailable("too many posts wait for their commit"))?;
        match timeout_at(deadline, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(unknown("the process stops")),
            Err(_) => Err(unknown("no reply in time")),
        }
    }
}

async fn send_batches<S: Store>(
    store: S,
    mut queue: Queue<Waiter>,
    mut arriving: mpsc::Receiver<Item<Waiter>>,
    stored: Arc<Notify>,
) {
    let mut calls = FuturesUnordered::new();
    let mut arrived = Vec::new();
    let mut is_open = true;
    while is_open || !calls.is_empty() {
        while let Some(batch) = queue.next_batch(Instant::now()) {
            calls.push(insert(store.clone(), batch));
        }
        tokio::select! {
            biased;
            Some((batch, result)) = calls.next(), if !calls.is_empty() => {
                if result.is_ok() {
                    stored.notify_one();
                }
                end(&mut queue, batch, result);
            }
            received = arriving.recv_many(&mut arrived, POSTS_MAX), if is_open => {
                is_open = received > 0;
                if calls.is_empty() {
                    // Posts that are ready to arrive join the batch.
                    yield_now().await;
                    while let Ok(item) = arriving.try_recv() {
                        arrived.push(item);
                    }
                }
                for item in arrived.drain(..) {
                    if let Some(refused) = queue.push(item) {
                        refused.answer(Err(unavailable("too many posts wait for their commit")));
                    }
                }
            }
        }
    }
}

async fn insert<S: Store>(
    store: S,
    batch: Batch<Waiter>,
) -> (Batch<Waiter>, Result<Vec<Inserted>, StoreError>) {
    let result = store.insert(&batch.events()).await;
    (batch, result)
}

/// Answers the posts of a batch, or the part that is not sent again.
fn end(queue: &mut Queue<Waiter>, batch: Batch<Waiter>, result: Result<Vec<Inserted>, StoreError>) {
    match result {
        Ok(inserted) => {
            for (item, inserted) in queue.stored(batch).into_iter().zip(inserted) {
                item.answer(Ok(inserted));
            }
        }
        Err(error) => {
            for item in queue.failed(batch, &error) {
                item.answer(Err(error.clone()));
            }
        }
    }
}

impl Item<Waiter> {
    /// The client may have left.
    fn answer(self, result: Result<Inserted, StoreError>) {
        let _ = self.waiter.result.send(result);
    }
}

fn unavailable(reason: &str) -> StoreError {
    StoreError::Unavailable { operation: OPERATION, reason: reason.to_owned() }
}

fn unknown(reason: &str) -> StoreError {
    StoreError::Unknown { operation: OPERATION, reason: reason.to_owned() }
}
