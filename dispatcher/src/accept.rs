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
use prometheus_client::metrics::gauge::Gauge;
use rand::Rng;
use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc, oneshot};
use tokio::task::yield_now;
use tokio::time::{Instant, timeout_at};

use self::queue::{Batch, Item, Queue};
use crate::event::{Claim, ClaimKey, LeaseHolder, NewEvent};
use crate::hand_off::{HandOff, HandedClaim, HandedOver, Reserved};
use crate::host::{HostKey, host_of};
use crate::metrics::Metrics;
use crate::store::{Inserted, InsertedRows, NewRow, Store, StoreError, extra_time};

/// Maximum number of posts that wait for their batch. A further one gets a 503.
const POSTS_MAX: usize = 8_192;

/// Maximum wait of a post for its batch and the commit, so that a 503 is sent within two seconds.
/// The store gives up a statement a little earlier, so that the client gets its error.
const WAIT_MAX: Duration = Duration::from_millis(1_600);

const OPERATION: &str = "storing an event";
const TOO_MANY: &str = "too many posts wait for their commit";

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
    let (posts, arriving) = mpsc::channel(POSTS_MAX);
    let acceptor = Acceptor { posts, waiting: parts.metrics.posts_waiting.clone() };
    let batches = Batches { queue: Queue::new(parts.connections), parts, stored_at: None };
    (acceptor, batches.run(arriving))
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
        self.posts.try_send(Item { event, deadline, waiter }).map_err(|_| unavailable(TOO_MANY))?;
        match timeout_at(deadline, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(unknown("the process stops")),
            Err(_) => Err(unknown("no reply in time")),
        }
    }
}

/// The task that owns the queue and the statements.
struct Batches<S, R> {
    parts: Parts<S, R>,
    queue: Queue<Waiter>,
    /// `now()` of the last batch that was stored.
    stored_at: Option<DateTime<Utc>>,
}

/// A batch with the permits of its events.
struct Call {
    batch: Batch<Waiter>,
    hosts: Vec<HostKey>,
    holder: Option<LeaseHolder>,
    /// One value per event, or none at all.
    reserved: Vec<Option<Reserved>>,
    sent_at: Instant,
}

impl<S: Store, R: Rng + Send + 'static> Batches<S, R> {
    async fn run(mut self, mut arriving: mpsc::Receiver<Item<Waiter>>) {
        let mut calls = FuturesUnordered::new();
        let mut arrived = Vec::new();
        let mut is_open = true;
        while is_open || !calls.is_empty() {
            while let Some(batch) = self.queue.next_batch(Instant::now()) {
                calls.push(insert(self.parts.store.clone(), self.call(batch)));
            }
            tokio::select! {
                biased;
                Some((call, result)) = calls.next(), if !calls.is_empty() => {
                    self.end(call, result);
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
                        if let Some(refused) = self.queue.push(item) {
                            refused.answer(Err(unavailable(TOO_MANY)));
                        }
                    }
                }
            }
        }
    }

    /// Reserves permits of the worker for the events of a batch. A large event is left to a claim,
    /// because its payload may take long.
    fn call(&mut self, batch: Batch<Waiter>) -> Call {
        let now = Instant::now();
        let events = batch.events();
        let hosts: Vec<HostKey> = match batch.is_large() {
            true => Vec::new(),
            false => events.iter().map(|event| host_of(event.target.url())).collect(),
        };
        let reserved = self.parts.hand_off.reserve(&hosts, now, &mut self.parts.rng);
        let (holder, reserved) = reserved.map_or((None, Vec::new()), |(h, r)| (Some(h), r));
        Call { batch, hosts, holder, reserved, sent_at: now }
    }

    /// Gives the leased events to the worker, then answers the posts, or the part that is not sent
    /// again.
    fn end(&mut self, call: Call, result: Result<InsertedRows, StoreError>) {
        let Call { batch, hosts, reserved, sent_at, .. } = call;
        let has_reserved = reserved.iter().any(Option::is_some);
        let mut handed = HandedOver::empty(sent_at);
        match result {
            Ok(rows) => {
                let mut items = self.queue.stored(batch);
                let mut all_handed = true;
                self.stored_at = Some(rows.now);
                handed.claimed_at = self.stored_at;
                let events = reserved.into_iter().chain(std::iter::repeat_with(|| None));
                for ((item, inserted), (at, reserved)) in
                    items.iter_mut().zip(&rows.events).zip(events.enumerate())
                {
                    let is_new = *inserted == Inserted::Accepted(item.event.id);
                    match reserved.filter(|_| is_new) {
                        Some(reserved) => {
                            handed.claims.push(claim(&mut item.event, &hosts[at], reserved));
                        }
                        None => all_handed &= !is_new,
                    }
                }
                self.parts.metrics.handed_over.inc_by(handed.claims.len() as u64);
                if has_reserved {
                    self.parts.hand_off.hand_over(handed);
                }
                if !all_handed {
                    self.parts.stored.notify_one();
                }
                for (item, inserted) in items.into_iter().zip(rows.events) {
                    item.answer(Ok(inserted));
                }
            }
            Err(error) => {
                handed.claimed_at = self.stored_at;
                if error.is_unknown() {
                    handed.lost = reserved.into_iter().flatten().collect();
                } else {
                    drop(reserved);
                }
                if has_reserved {
                    self.parts.hand_off.hand_over(handed);
                }
                for item in self.queue.failed(batch, &error) {
                    item.answer(Err(error.clone()));
                }
            }
        }
    }
}

async fn insert<S: Store>(store: S, call: Call) -> (Call, Result<InsertedRows, StoreError>) {
    let tokens = call.reserved.iter().map(|it| it.as_ref().map(|it| it.token));
    let tokens = tokens.chain(std::iter::repeat(None));
    let rows = call.batch.events().into_iter().zip(tokens);
    let rows: Vec<NewRow<'_>> = rows.map(|(event, token)| NewRow { event, token }).collect();
    let result = store.insert(&rows, call.holder).await;
    drop(rows);
    (call, result)
}

/// Returns the claim of a stored event and takes its payload.
fn claim(event: &mut NewEvent, host: &HostKey, reserved: Reserved) -> HandedClaim {
    let key = ClaimKey { id: event.id, token: reserved.token, number: 1 };
    let claim = Claim {
        key,
        failure_count: 0,
        target_url: event.target.url().to_owned(),
        payload: std::mem::take(&mut event.payload),
        unfetched: 0,
    };
    HandedClaim { claim, host: HostKey::clone(host), reserved }
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
