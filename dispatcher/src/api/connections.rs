//! Connection limiter: bounds the number of client connections and of requests in progress, so that
//! clients cannot use all file descriptors.
//!
//! A connection is idle unless its request has a place. Only an authorized request gets one. A
//! client without a key is therefore always idle. At the limit, the connection that has been idle
//! longest is closed for the next one. Health and metrics need no place.
//!
//! Clients that never had a place hold at most half of the connections. Otherwise many of them
//! would close the kept connections of authorized clients.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// Connections beyond `MAX_API_CONNECTIONS`, for health and metrics: no request to `/events` gets a
/// place on them.
pub(crate) const OPERATIONS_CONNECTIONS: u32 = 16;

/// If no place is free, an upload that has taken longer is ended for the next request.
const UPLOAD_MIN: Duration = Duration::from_secs(2);

/// Number of a connection whose request has a place and waits for nothing from its client.
const ACTIVE: u64 = 0;

#[derive(Debug)]
pub(super) struct ConnectionLimiter {
    /// One permit per open connection.
    permits: Arc<Semaphore>,
    connections_max: u32,
    /// One permit per request in progress to `/events`.
    places: Arc<Semaphore>,
    waiting: Mutex<Waiting>,
    became_idle: Notify,
}

/// Connections that wait for their client. The number grows with each change, so the first entry
/// of a map has waited longest.
#[derive(Debug, Default)]
struct Waiting {
    last_number: u64,
    /// Idle connections that never had a place.
    strangers: Waiters,
    /// The other idle connections.
    authorized: Waiters,
    uploading: Waiters,
}

/// Since when each connection waits, and the token that closes it.
type Waiters = BTreeMap<u64, (Instant, CancellationToken)>;

/// One admitted connection. Drop returns its permit.
#[derive(Debug)]
pub(super) struct Connection {
    limiter: Arc<ConnectionLimiter>,
    /// Cancelled when the limiter requires this connection to close.
    pub(super) must_close: CancellationToken,
    number: AtomicU64,
    had_place: AtomicBool,
    may_have_unread_bytes: AtomicBool,
    _permit: OwnedSemaphorePermit,
}

/// The place of a request in progress. While it exists, the limiter does not close its connection.
pub(super) struct Place {
    connection: Arc<Connection>,
    _permit: OwnedSemaphorePermit,
}

/// The time in which a request with a place waits for its body.
pub(super) struct Upload(Arc<Connection>);

/// Runs a request with a place. Without a free one, the request waits.
pub(super) async fn with_place(request: Request, next: Next) -> Response {
    let _place = Connection::of(&request).take_place().await;
    next.run(request).await
}

impl ConnectionLimiter {
    pub(super) fn new(requests_max: u32) -> Arc<Self> {
        let connections_max = requests_max.saturating_add(OPERATIONS_CONNECTIONS);
        Arc::new(Self {
            permits: Arc::new(Semaphore::new(connections_max as usize)),
            connections_max,
            places: Arc::new(Semaphore::new(requests_max as usize)),
            waiting: Mutex::default(),
            became_idle: Notify::new(),
        })
    }

    /// Waits for a permit. At the limit, the connection that has been idle longest must close.
    pub(super) async fn admit(self: &Arc<Self>) -> Arc<Connection> {
        let permit = acquire(&self.permits, self.close_one()).await;
        let connection = Arc::new(Connection {
            limiter: Arc::clone(self),
            must_close: CancellationToken::new(),
            number: AtomicU64::new(ACTIVE),
            had_place: AtomicBool::new(false),
            may_have_unread_bytes: AtomicBool::new(false),
            _permit: permit,
        });
        connection.set_idle();
        connection
    }

    /// One closed connection is enough, because its permit comes to the waiter.
    async fn close_one(&self) {
        while !self.close_longest_idle() {
            self.became_idle.notified().await;
        }
    }

    /// Returns false if no connection is idle.
    pub(super) fn close_longest_idle(&self) -> bool {
        let strangers_max = (self.connections_max / 2) as usize;
        let longest = self.waiting.lock().pop_longest_idle(strangers_max);
        longest.inspect(|(_, must_close)| must_close.cancel()).is_some()
    }

    /// One ended upload is enough, because its place comes to the waiter.
    async fn end_one_upload(&self) {
        while let Some(next_try) = self.end_longest_upload(Instant::now()) {
            sleep_until(next_try).await;
        }
    }

    /// Ends the longest upload if it has taken [`UPLOAD_MIN`]. Otherwise returns the time at which
    /// one can have.
    fn end_longest_upload(&self, now: Instant) -> Option<Instant> {
        let mut waiting = self.waiting.lock();
        let Some(longest) = waiting.uploading.first_entry() else {
            return Some(now + UPLOAD_MIN);
        };
        let ends_at = longest.get().0 + UPLOAD_MIN;
        if now < ends_at {
            return Some(ends_at);
        }
        longest.remove().1.cancel();
        None
    }

    /// Waits until all connections have ended.
    pub(super) async fn all_closed(&self) {
        let all = self.permits.acquire_many(self.connections_max).await;
        drop(all.expect("the semaphore is never closed"));
    }
}

/// Takes a permit. If none is free, makes room for one while it waits.
async fn acquire(
    semaphore: &Arc<Semaphore>,
    make_room: impl Future<Output = ()>,
) -> OwnedSemaphorePermit {
    if let Ok(free) = Arc::clone(semaphore).try_acquire_owned() {
        return free;
    }
    let mut permit = pin!(Arc::clone(semaphore).acquire_owned());
    let permit = tokio::select! {
        biased;
        permit = permit.as_mut() => permit,
        () = make_room => permit.await,
    };
    permit.expect("the semaphore is never closed")
}

impl Connection {
    /// Returns the connection of a request. The server has added it.
    pub(super) fn of(request: &Request) -> Arc<Self> {
        let connection = request.extensions().get::<Arc<Self>>();
        Arc::clone(connection.expect("the server adds the connection to each request"))
    }

    /// Returns true if a request has a place and does not wait for its body.
    pub(super) fn is_active(&self) -> bool {
        self.number.load(Ordering::Acquire) == ACTIVE
    }

    /// Notes that the client has sent bytes that may not be a complete request.
    pub(super) fn received(&self) {
        self.may_have_unread_bytes.store(true, Ordering::Release);
    }

    /// Returns true if the client may still be sending a request.
    pub(super) fn may_have_unread_bytes(&self) -> bool {
        self.may_have_unread_bytes.load(Ordering::Acquire)
    }

    /// Notes that a head is complete. The connection counts as idle from now on.
    pub(super) fn start_request(&self, has_body: bool) {
        self.may_have_unread_bytes.store(has_body, Ordering::Release);
        self.set_idle();
    }

    async fn take_place(self: &Arc<Self>) -> Place {
        let permit = acquire(&self.limiter.places, self.limiter.end_one_upload()).await;
        self.had_place.store(true, Ordering::Release);
        self.set_active();
        Place { connection: Arc::clone(self), _permit: permit }
    }

    /// Marks the request as waiting for its body, until the result is dropped.
    pub(super) fn start_upload(self: &Arc<Self>) -> Upload {
        self.wait_for_client(|waiting| &mut waiting.uploading);
        Upload(Arc::clone(self))
    }

    fn set_idle(&self) {
        self.wait_for_client(|waiting| match self.had_place.load(Ordering::Acquire) {
            true => &mut waiting.authorized,
            false => &mut waiting.strangers,
        });
        self.limiter.became_idle.notify_one();
    }

    fn wait_for_client(&self, waiters: impl FnOnce(&mut Waiting) -> &mut Waiters) {
        let mut waiting = self.limiter.waiting.lock();
        waiting.last_number += 1;
        let number = waiting.last_number;
        let before = self.number.swap(number, Ordering::AcqRel);
        waiting.remove(before);
        waiters(&mut waiting).insert(number, (Instant::now(), self.must_close.clone()));
    }

    fn set_active(&self) {
        let mut waiting = self.limiter.waiting.lock();
        let before = self.number.swap(ACTIVE, Ordering::AcqRel);
        waiting.remove(before);
    }
}

impl Waiting {
    fn pop_longest_idle(&mut self, strangers_max: usize) -> Option<(Instant, CancellationToken)> {
        let stranger = self.strangers.first_key_value().map(|(number, _)| *number);
        let authorized = self.authorized.first_key_value().map(|(number, _)| *number);
        let number = match (stranger, authorized) {
            (Some(stranger), Some(authorized)) if self.strangers.len() <= strangers_max => {
                stranger.min(authorized)
            }
            (stranger, authorized) => stranger.or(authorized)?,
        };
        let stranger = self.strangers.remove(&number);
        stranger.or_else(|| self.authorized.remove(&number))
    }

    fn remove(&mut self, number: u64) {
        self.strangers.remove(&number);
        self.authorized.remove(&number);
        self.uploading.remove(&number);
    }
}

impl Upload {
    /// Notes that the body was read completely.
    pub(super) fn complete(self) {
        self.0.may_have_unread_bytes.store(false, Ordering::Release);
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.0.set_active();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connection.set_idle();
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.set_active();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    async fn admit(limiter: &Arc<ConnectionLimiter>, count: u32) -> Vec<Arc<Connection>> {
        let mut admitted = Vec::new();
        for _ in 0..count {
            admitted.push(limiter.admit().await);
        }
        admitted
    }

    #[tokio::test]
    async fn longest_idle_connection_must_close_for_the_next() {
        let limiter = ConnectionLimiter::new(2);
        let mut open = admit(&limiter, 2 + OPERATIONS_CONNECTIONS).await;
        open[0].start_request(false);
        assert!(limiter.admit().now_or_never().is_none(), "all connections are still open");
        let closing: Vec<_> = open.iter().map(|c| c.must_close.is_cancelled()).collect();
        assert_eq!(closing.iter().position(|closing| *closing), Some(1));
        assert_eq!(closing.iter().filter(|closing| **closing).count(), 1);
        drop(open.remove(1));
        assert!(limiter.admit().now_or_never().is_some());
    }

    // Clients without a key have no place, so they cannot make an authorized client wait.
    #[tokio::test]
    async fn connection_with_a_place_is_not_closed() {
        let limiter = ConnectionLimiter::new(2);
        let first = limiter.admit().await;
        let place = first.take_place().await;
        let strangers = admit(&limiter, 1 + OPERATIONS_CONNECTIONS).await;
        for _ in &strangers {
            assert!(limiter.close_longest_idle());
        }
        assert!(!limiter.close_longest_idle() && !first.must_close.is_cancelled());
        assert!(strangers.iter().all(|c| c.must_close.is_cancelled()));
        drop(place);
        assert!(limiter.close_longest_idle() && first.must_close.is_cancelled());
    }

    // The strangers come later, and only if they are at most half can they close a kept connection.
    #[tokio::test]
    async fn strangers_close_no_kept_connection_of_an_authorized_client() {
        let limiter = ConnectionLimiter::new(2);
        let kept = admit(&limiter, 2).await;
        for connection in &kept {
            drop(connection.take_place().await);
        }
        let strangers = admit(&limiter, OPERATIONS_CONNECTIONS).await;
        let half = (limiter.connections_max / 2) as usize;
        for _ in half..strangers.len() {
            assert!(limiter.close_longest_idle());
        }
        assert!(kept.iter().all(|c| !c.must_close.is_cancelled()));
        assert!(limiter.close_longest_idle() && kept[0].must_close.is_cancelled());
    }

    // All places are taken. Health must still be served.
    #[tokio::test]
    async fn requests_without_a_place_have_connections_left() {
        let limiter = ConnectionLimiter::new(2);
        let open = admit(&limiter, 2).await;
        let places = [open[0].take_place().await, open[1].take_place().await];
        let health = admit(&limiter, OPERATIONS_CONNECTIONS).await;
        assert!(health[0].take_place().now_or_never().is_none());
        assert!(health.iter().all(|c| !c.must_close.is_cancelled()));
        drop(places);
        assert!(health[0].take_place().now_or_never().is_some());
    }

    // The time is virtual, so the test takes none.
    #[tokio::test(start_paused = true)]
    async fn long_upload_ends_if_no_place_is_free() {
        let limiter = ConnectionLimiter::new(2);
        let open = admit(&limiter, 4).await;
        let mut places = vec![open[0].take_place().await, open[1].take_place().await];
        let upload = open[1].start_upload();
        let since = Instant::now();
        let mut next = pin!(open[2].take_place());
        tokio::select! {
            _ = next.as_mut() => panic!("no place is free"),
            () = open[1].must_close.cancelled() => {}
        }
        assert_eq!(since.elapsed().as_secs(), UPLOAD_MIN.as_secs());
        assert!(!open[0].must_close.is_cancelled(), "it waits for no client");
        drop(upload);
        drop(places.pop());
        assert!(next.now_or_never().is_some());
    }
}
