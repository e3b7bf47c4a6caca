//! Who is connected: bounded in number, so that clients cannot take every file descriptor. The idlest makes room for the next.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// The turn of a guest whose request is under way.
const BUSY: u64 = 0;

/// Every connected client.
#[derive(Debug)]
pub(super) struct Crowd {
    places: Arc<Semaphore>,
    places_max: u32,
    idle: Mutex<Idle>,
    became_idle: Notify,
}

/// Who has no request under way, the longest idle first.
#[derive(Debug, Default)]
struct Idle {
    last_turn: u64,
    by_turn: BTreeMap<u64, CancellationToken>,
}

/// One connected client; its place is free again when it is dropped.
#[derive(Debug)]
pub(super) struct Guest {
    crowd: Arc<Crowd>,
    dismissed: CancellationToken,
    turn: AtomicU64,
    _place: OwnedSemaphorePermit,
}

/// A request under way: its guest is not dismissed meanwhile.
pub(super) struct Busy(Arc<Guest>);

impl Crowd {
    pub(super) fn new(places_max: u32) -> Arc<Self> {
        Arc::new(Self {
            places: Arc::new(Semaphore::new(
                usize::try_from(places_max).unwrap_or(Semaphore::MAX_PERMITS),
            )),
            places_max,
            idle: Mutex::default(),
            became_idle: Notify::new(),
        })
    }

    /// Waits for a place. When there is none, the idlest is dismissed; when all are busy, the first to have its answer.
    pub(super) async fn admit(self: &Arc<Self>) -> Arc<Guest> {
        let place = match Arc::clone(&self.places).try_acquire_owned() {
            Ok(place) => place,
            Err(_) => self.make_room().await,
        };
        let guest = Arc::new(Guest {
            crowd: Arc::clone(self),
            dismissed: CancellationToken::new(),
            turn: AtomicU64::new(BUSY),
            _place: place,
        });
        guest.rest();
        guest
    }

    async fn make_room(&self) -> OwnedSemaphorePermit {
        let mut place = pin!(Arc::clone(&self.places).acquire_owned());
        // One is enough: its place comes to us as soon as its task has ended.
        while !self.dismiss_idlest() {
            tokio::select! {
                place = place.as_mut() => return place.expect("it is never closed"),
                () = self.became_idle.notified() => {}
            }
        }
        place.await.expect("it is never closed")
    }

    /// Waits until everybody has left.
    pub(super) async fn empty(&self) {
        let all = self.places.acquire_many(self.places_max).await;
        drop(all.expect("it is never closed"));
    }

    fn dismiss_idlest(&self) -> bool {
        let idlest = self.idle().by_turn.pop_first();
        idlest.inspect(|(_, guest)| guest.cancel()).is_some()
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle
            .lock()
            .expect("nothing panics while it holds this")
    }
}

impl Guest {
    /// Comes when this guest has to make room.
    pub(super) async fn dismissed(&self) {
        self.dismissed.cancelled().await;
    }

    /// Whether no request is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.turn.load(Ordering::Acquire) != BUSY
    }

    /// A request has begun.
    pub(super) fn begin(self: &Arc<Self>) -> Busy {
        self.rise();
        Busy(Arc::clone(self))
    }

    fn rise(&self) {
        let turn = self.turn.swap(BUSY, Ordering::AcqRel);
        self.crowd.idle().by_turn.remove(&turn);
    }

    fn rest(&self) {
        let mut idle = self.crowd.idle();
        idle.last_turn += 1;
        let turn = idle.last_turn;
        self.turn.store(turn, Ordering::Release);
        idle.by_turn.insert(turn, self.dismissed.clone());
        drop(idle);
        self.crowd.became_idle.notify_one();
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.rest();
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.rise();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    // Nothing here waits for a client that ends by itself: it is told to.
    #[tokio::test]
    async fn the_longest_idle_is_told_to_leave_when_the_next_one_comes() {
        let crowd = Crowd::new(2);
        let [first, second] = [crowd.admit().await, crowd.admit().await];
        drop(first.begin());
        assert!(
            crowd.admit().now_or_never().is_none(),
            "nobody has left yet"
        );
        assert!(second.dismissed.is_cancelled() && !first.dismissed.is_cancelled());
        drop(second);
        assert!(crowd.admit().now_or_never().is_some());
    }

    #[tokio::test]
    async fn whoever_has_a_request_under_way_is_told_only_after_its_answer() {
        let crowd = Crowd::new(2);
        let [first, second] = [crowd.admit().await, crowd.admit().await];
        let [busy, busy_too] = [first.begin(), second.begin()];
        let mut next = pin!(crowd.admit());
        assert!(next.as_mut().now_or_never().is_none());
        assert!(!first.dismissed.is_cancelled() && !second.dismissed.is_cancelled());
        drop(busy_too);
        assert!(
            next.as_mut().now_or_never().is_none(),
            "it has a last answer to write"
        );
        assert!(second.dismissed.is_cancelled() && !first.dismissed.is_cancelled());
        drop((second, busy));
        assert!(next.now_or_never().is_some());
    }
}
