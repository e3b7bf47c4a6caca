//! Queues posts with equal idempotency keys, so that they do not use up the connections of the API.
//!
//! In Postgres, an insert waits until an uncommitted insert with the same key has ended. So posts
//! with equal keys queue here, in memory, and only the first one uses a connection. All posts with
//! keys together use at most half of the connections.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex as Guarded};

use tokio::sync::{Mutex, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};

#[derive(Debug)]
pub(super) struct KeyedPosts {
    connections: Arc<Semaphore>,
    turns: Guarded<BTreeMap<String, Arc<Mutex<()>>>>,
}

/// The place of a post in the queue of its key. Dropping it admits the next post.
pub(super) struct Turn<'a> {
    posts: &'a KeyedPosts,
    key: &'a str,
    /// `None` only inside `drop`.
    queue: Option<Arc<Mutex<()>>>,
    /// `None` while the post waits.
    held: Option<(OwnedMutexGuard<()>, OwnedSemaphorePermit)>,
}

impl KeyedPosts {
    pub(super) fn new(connections: u32) -> Self {
        let share = usize::try_from(connections.div_ceil(2)).unwrap_or(1);
        Self { connections: Arc::new(Semaphore::new(share)), turns: Guarded::default() }
    }

    /// Waits for the turn of the post in the queue of its key, then for one of the connections for
    /// keys.
    pub(super) async fn turn<'a>(&'a self, key: &'a str) -> Turn<'a> {
        let queue = {
            let mut turns = self.turns.lock().expect("no code panics while it holds this lock");
            Arc::clone(turns.entry(key.to_owned()).or_default())
        };
        let mut turn = Turn { posts: self, key, queue: Some(Arc::clone(&queue)), held: None };
        let alone = queue.lock_owned().await;
        let connections = Arc::clone(&self.connections);
        let connection = connections.acquire_owned().await.expect("the semaphore is never closed");
        turn.held = Some((alone, connection));
        turn
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut turns = self.posts.turns.lock().expect("no code panics while it holds this lock");
        self.held.take();
        self.queue.take();
        // If only the reference of the map is left, no other post waits for this key.
        if turns.get(self.key).is_some_and(|queue| Arc::strong_count(queue) == 1) {
            turns.remove(self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn posts_with_equal_keys_take_turns_and_leave_no_entry() {
        let posts = KeyedPosts::new(8);
        let first = posts.turn("a").await;
        let other = posts.turn("b").await;
        let second = posts.turn("a");
        tokio::pin!(second);
        let waits = tokio::select! { biased; _ = &mut second => false, () = async {} => true };
        assert!(waits, "the second post waits");
        let third = async { drop(posts.turn("a").await) };
        let is_dropped = tokio::select! { biased; () = third => false, () = async {} => true };
        assert!(is_dropped, "the third post waits and is dropped");
        drop(first);
        drop(second.await);
        drop(other);
        assert!(posts.turns.lock().expect("no panic").is_empty());
    }

    #[tokio::test]
    async fn posts_with_keys_use_at_most_half_of_the_connections() {
        let posts = KeyedPosts::new(2);
        let _first = posts.turn("a").await;
        let second = posts.turn("b");
        tokio::pin!(second);
        let waits = tokio::select! { biased; _ = &mut second => false, () = async {} => true };
        assert!(waits);
    }
}
