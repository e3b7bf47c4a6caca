//! Connection limiter: bounds the number of client connections, so that clients cannot use all file
//! descriptors.
//!
//! At the limit, it closes the connection that has been idle longest and admits the next one. A
//! connection with an active request is closed only after its response.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// Idle number of a connection with an active request.
const ACTIVE: u64 = 0;

#[derive(Debug)]
pub(super) struct ConnectionLimiter {
    permits: Arc<Semaphore>,
    connections_max: u32,
    idle: Mutex<Idle>,
    became_idle: Notify,
}

/// Connections without an active request. The number grows with each connection that becomes idle,
/// so the first entry has been idle longest.
#[derive(Debug, Default)]
struct Idle {
    last_number: u64,
    by_number: BTreeMap<u64, CancellationToken>,
}

/// One admitted connection. Drop returns its permit.
#[derive(Debug)]
pub(super) struct Connection {
    limiter: Arc<ConnectionLimiter>,
    must_close: CancellationToken,
    idle_number: AtomicU64,
    _permit: OwnedSemaphorePermit,
}

/// While it exists, the limiter does not choose its connection to be closed.
pub(super) struct ActiveRequest(Arc<Connection>);

impl ConnectionLimiter {
    pub(super) fn new(connections_max: u32) -> Arc<Self> {
        Arc::new(Self {
            permits: Arc::new(Semaphore::new(
                usize::try_from(connections_max).unwrap_or(Semaphore::MAX_PERMITS),
            )),
            connections_max,
            idle: Mutex::default(),
            became_idle: Notify::new(),
        })
    }

    /// Waits for a permit. At the limit, the connection that has been idle longest must close. If
    /// all are active, the first one that completes its request must close.
    pub(super) async fn admit(self: &Arc<Self>) -> Arc<Connection> {
        let permit = match Arc::clone(&self.permits).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => self.close_one().await,
        };
        let connection = Arc::new(Connection {
            limiter: Arc::clone(self),
            must_close: CancellationToken::new(),
            idle_number: AtomicU64::new(ACTIVE),
            _permit: permit,
        });
        connection.set_idle();
        connection
    }

    async fn close_one(&self) -> OwnedSemaphorePermit {
        let mut permit = pin!(Arc::clone(&self.permits).acquire_owned());
        // One closed connection is enough, because its permit comes to this waiter.
        while !self.close_longest_idle() {
            tokio::select! {
                permit = permit.as_mut() => return permit.expect("the semaphore is never closed"),
                () = self.became_idle.notified() => {}
            }
        }
        permit.await.expect("the semaphore is never closed")
    }

    /// Returns false if no connection is idle.
    fn close_longest_idle(&self) -> bool {
        let longest = self.idle().by_number.pop_first();
        longest
            .inspect(|(_, must_close)| must_close.cancel())
            .is_some()
    }

    /// Waits until all connections have ended.
    pub(super) async fn all_closed(&self) {
        let all = self.permits.acquire_many(self.connections_max).await;
        drop(all.expect("the semaphore is never closed"));
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle
            .lock()
            .expect("no code panics while it holds this lock")
    }
}

impl Connection {
    /// Waits until the limiter requires this connection to close.
    pub(super) async fn must_close(&self) {
        self.must_close.cancelled().await;
    }

    /// Returns true if there is no active request.
    pub(super) fn is_idle(&self) -> bool {
        self.idle_number.load(Ordering::Acquire) != ACTIVE
    }

    pub(super) fn start_request(self: &Arc<Self>) -> ActiveRequest {
        self.set_active();
        ActiveRequest(Arc::clone(self))
    }

    fn set_active(&self) {
        let number = self.idle_number.swap(ACTIVE, Ordering::AcqRel);
        self.limiter.idle().by_number.remove(&number);
    }

    fn set_idle(&self) {
        let mut idle = self.limiter.idle();
        idle.last_number += 1;
        let number = idle.last_number;
        self.idle_number.store(number, Ordering::Release);
        idle.by_number.insert(number, self.must_close.clone());
        drop(idle);
        self.limiter.became_idle.notify_one();
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        self.0.set_idle();
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

    #[tokio::test]
    async fn longest_idle_connection_must_close_for_the_next() {
        let limiter = ConnectionLimiter::new(2);
        let [first, second] = [limiter.admit().await, limiter.admit().await];
        drop(first.start_request());
        assert!(
            limiter.admit().now_or_never().is_none(),
            "both connections are still open"
        );
        assert!(second.must_close.is_cancelled() && !first.must_close.is_cancelled());
        drop(second);
        assert!(limiter.admit().now_or_never().is_some());
    }

    #[tokio::test]
    async fn active_connection_must_close_only_after_its_response() {
        let limiter = ConnectionLimiter::new(2);
        let [first, second] = [limiter.admit().await, limiter.admit().await];
        let [first_request, second_request] = [first.start_request(), second.start_request()];
        let mut next = pin!(limiter.admit());
        assert!(next.as_mut().now_or_never().is_none());
        assert!(!first.must_close.is_cancelled() && !second.must_close.is_cancelled());
        drop(second_request);
        assert!(
            next.as_mut().now_or_never().is_none(),
            "the second connection still writes its response"
        );
        assert!(second.must_close.is_cancelled() && !first.must_close.is_cancelled());
        drop((second, first_request));
        assert!(next.now_or_never().is_some());
    }
}
