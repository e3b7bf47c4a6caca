//! Stores posted events in batches: each batch is one statement and one commit.
//!
//! Posts that arrive while a batch is on its way form the next batch, so the size of the batches
//! follows the load, and a post never waits for a timer. `accept/queue.rs` decides what is sent and
//! when. The task here owns the statements: a client that leaves ends none.

mod queue;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use rand::Rng;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::yield_now;
use tokio::time::{Instant, timeout_at};

use self::queue::{Batch, Item, Kind, Queue};
use crate::event::{Claim, ClaimKey, LeaseHolder, NewEvent};
use crate::hand_off::{HandOff, HandedClaim, HandedOver, Reserved};
use crate::host::{HostKey, host_of};
use crate::metrics::Metrics;
use crate::store::{Inserted, InsertedRows, NewRow, Store, StoreError, extra_time};

/// Maximum number of posts that wait for their commit. A further one gets a 503.
const POSTS_MAX: usize = 8_192;

/// Maximum wait of a post for its batch and the commit, so that a 503 is sent within two seconds.
/// The store gives up a statement a little earlier, so that the client gets its error.
const WAIT_MAX: Duration = Duration::from_millis(1_600);

const OPERATION: &str = "storing an event";

/// Accepts events for the batches. Clones share them.
#[derive(Clone, Debug)]
pub struct Acceptor {
    posts: mpsc::UnboundedSender<Item<Waiter>>,
    /// One permit for each further post that may wait.
    room: Arc<Semaphore>,
}

/// The client of a post.
#[derive(Debug)]
struct Waiter {
    result: oneshot::Sender<Result<Inserted, StoreError>>,
    host: HostKey,
    /// While a statement stores the event with a lease.
    reserved: Option<Reserved>,
    /// Given back when the post is answered: its place, and the memory of the event.
    _held: (OwnedSemaphorePermit, Option<OwnedSemaphorePermit>),
}

/// The collaborators of the batches.
#[derive(Debug)]
pub struct Parts<S, R> {
    /// The events.
    pub store: S,
    /// `ACCEPT_CONNECTIONS`.
    pub connections: u32,
    /// The way to the worker of this process.
    pub hand_off: Arc<HandOff>,
    /// Notified after a commit of events that are not handed over.
    pub stored: Arc<Notify>,
    /// Counters of this process.
    pub metrics: Arc<Metrics>,
    /// Draws the tokens of leases.
    pub rng: R,
}

/// Returns the entry of the batches and the task that sends them to the store. The task ends when
/// every acceptor is dropped and each post is answered. If it is dropped, open posts get an unknown
/// outcome.
pub fn acceptor<S: Store, R: Rng + Send + 'static>(
    parts: Parts<S, R>,
) -> (Acceptor, impl Future<Output = ()> + Send) {
    let (posts, arriving) = mpsc::unbounded_channel();
    let room = Arc::new(Semaphore::new(POSTS_MAX));
    let acceptor = Acceptor { posts, room: Arc::clone(&room) };
    let queue = Queue::new(parts.connections);
    (acceptor, Batches { parts, queue, room, stored_at: None }.run(arriving))
}

impl Acceptor {
    /// Stores an event in one durable commit. `memory` is kept until the event is written or
    /// refused, also if this future is dropped.
    ///
    /// # Errors
    /// The error of the batch. Too many posts wait, or no result within 1.6 s plus the extra time
    /// of a large payload: the event may then still be stored.
    pub async fn store(
        &self,
        event: NewEvent,
        memory: Option<OwnedSemaphorePermit>,
    ) -> Result<Inserted, StoreError> {
        let place = Arc::clone(&self.room).try_acquire_owned();
        let place = place.map_err(|_| StoreError::Unavailable {
            operation: OPERATION,
            reason: "too many posts wait for their commit".to_owned(),
        })?;
        let deadline = Instant::now() + WAIT_MAX + extra_time(event.payload.len());
        let (result, answer) = oneshot::channel();
        let host = host_of(event.target.url());
        let waiter = Waiter { result, host, reserved: None, _held: (place, memory) };
        // If the task has ended, this drops the sender of the result.
        let _ = self.posts.send(Item { event, deadline, waiter });
        match timeout_at(deadline, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(unknown("the process stops")),
            Err(_) => Err(unknown("no reply in time")),
        }
    }
}

fn unknown(reason: &str) -> StoreError {
    StoreError::Unknown { operation: OPERATION, reason: reason.to_owned() }
}

/// The task that owns the queue and the statements.
struct Batches<S, R> {
    parts: Parts<S, R>,
    queue: Queue<Waiter>,
    room: Arc<Semaphore>,
    /// `now()` of the last batch that was stored.
    stored_at: Option<DateTime<Utc>>,
}

impl<S: Store, R: Rng + Send + 'static> Batches<S, R> {
    async fn run(mut self, mut arriving: mpsc::UnboundedReceiver<Item<Waiter>>) {
        let mut calls = FuturesUnordered::new();
        let mut arrived = Vec::new();
        let mut is_open = true;
        while is_open || !calls.is_empty() {
            let sent_at = Instant::now();
            while let Some(mut batch) = self.queue.next_batch(sent_at) {
                let (store, holder) = (self.parts.store.clone(), self.reserve(&mut batch, sent_at));
                calls.push(async move {
                    let rows: Vec<NewRow<'_>> = batch.items.iter().map(row).collect();
                    let result = store.insert(&rows, holder).await;
                    drop(rows);
                    (batch, sent_at, result)
                });
            }
            let waiting = POSTS_MAX - self.room.available_permits();
            self.parts.metrics.posts_waiting.set(i64::try_from(waiting).unwrap_or(i64::MAX));
            tokio::select! {
                biased;
                Some((batch, sent_at, result)) = calls.next(), if !calls.is_empty() => {
                    self.end(batch, sent_at, result);
                }
                received = arriving.recv_many(&mut arrived, POSTS_MAX), if is_open => {
                    is_open = received > 0;
                    if calls.is_empty() {
                        // Posts that are ready to arrive join the batch.
                        yield_now().await;
                        arrived.extend(std::iter::from_fn(|| arriving.try_recv().ok()));
                    }
                    arrived.drain(..).for_each(|item| self.queue.push(item));
                }
            }
        }
    }

    /// Reserves permits of the worker for the events of a batch. A large event is left to a claim,
    /// because its payload may take long.
    fn reserve(&mut self, batch: &mut Batch<Waiter>, now: Instant) -> Option<LeaseHolder> {
        if batch.kind == Kind::Large {
            return None;
        }
        let waiters = batch.items.iter_mut().map(|item| &mut item.waiter);
        let places = waiters.map(|waiter| (&waiter.host, &mut waiter.reserved));
        self.parts.hand_off.reserve(places, now, &mut self.parts.rng)
    }

    /// Gives the leased events to the worker, then answers the posts, or the part that is not sent
    /// again.
    fn end(
        &mut self,
        mut batch: Batch<Waiter>,
        sent_at: Instant,
        result: Result<InsertedRows, StoreError>,
    ) {
        let (mut claims, mut lost, mut is_handed) = (Vec::new(), Vec::new(), true);
        let items = batch.items.iter_mut();
        match &result {
            Ok(rows) => {
                self.stored_at = Some(rows.now);
                for (item, inserted) in items.zip(&rows.events) {
                    let reserved = item.waiter.reserved.take();
                    if *inserted == Inserted::Accepted(item.event.id) {
                        is_handed &= reserved.is_some();
                        claims.extend(reserved.map(|reserved| claim(item, reserved)));
                    }
                }
            }
            Err(error) if error.is_unknown() => {
                lost.extend(items.filter_map(|item| item.waiter.reserved.take()));
            }
            Err(_) => items.for_each(|item| item.waiter.reserved = None),
        }
        self.parts.metrics.handed_over.inc_by(claims.len() as u64);
        let (claimed_at, received_at) = (self.stored_at, Instant::now());
        let handed = HandedOver { claims, lost, claimed_at, sent_at, received_at };
        self.parts.hand_off.hand_over(handed);
        if !is_handed {
            self.parts.stored.notify_one();
        }
        match result {
            Ok(rows) => {
                let items = self.queue.stored(batch).into_iter().zip(rows.events);
                items.for_each(|(item, inserted)| item.answer(Ok(inserted)));
            }
            Err(error) => {
                let items = self.queue.failed(batch, &error).into_iter();
                items.for_each(|item| item.answer(Err(error.clone())));
            }
        }
    }
}

fn row(item: &Item<Waiter>) -> NewRow<'_> {
    let reserved = item.waiter.reserved.as_ref();
    NewRow { event: &item.event, token: reserved.map(|reserved| reserved.token) }
}

/// Returns the claim of a stored event and takes its payload.
fn claim(item: &mut Item<Waiter>, reserved: Reserved) -> HandedClaim {
    let event = &mut item.event;
    let claim = Claim {
        key: ClaimKey { id: event.id, token: reserved.token, number: 1 },
        failure_count: 0,
        target_url: event.target.url().to_owned(),
        payload: std::mem::take(&mut event.payload),
        unfetched: 0,
    };
    HandedClaim { claim, host: HostKey::clone(&item.waiter.host), reserved }
}

impl Item<Waiter> {
    /// The client may have left.
    fn answer(self, result: Result<Inserted, StoreError>) {
        let _ = self.waiter.result.send(result);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{EventId, Target};

    #[tokio::test]
    async fn further_post_is_refused_if_too_many_wait() {
        let (posts, mut arriving) = mpsc::unbounded_channel();
        let acceptor = Acceptor { posts, room: Arc::new(Semaphore::new(1)) };
        let event = || NewEvent {
            id: EventId::fresh(),
            payload: b"1".to_vec(),
            target: Target::Given("http://a/".into()),
            idempotency_key: None,
        };
        let first = tokio::spawn({
            let (acceptor, event) = (acceptor.clone(), event());
            async move { acceptor.store(event, None).await }
        });
        let item = arriving.recv().await.expect("the first post waits");
        let refused = acceptor.store(event(), None).await;
        assert!(matches!(refused, Err(StoreError::Unavailable { .. })), "{refused:?}");
        let id = item.event.id;
        item.answer(Ok(Inserted::Accepted(id)));
        let accepted = first.await.expect("the task does not panic").expect("the post is answered");
        assert_eq!(accepted, Inserted::Accepted(id));
        assert_eq!(acceptor.room.available_permits(), 1, "an answered post leaves its place");
    }
}
