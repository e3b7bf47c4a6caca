//! Keeps posts that share an idempotency key from holding up the others.
//!
//! Postgres makes an insert wait for another one of the same key that has not committed. Posts of one key in this process
//! therefore queue here, in memory, and only the first of them waits on a connection; and all posts with keys together
//! leave half of the connections to those without.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex as Guarded};

use tokio::sync::{Mutex, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};

#[derive(Debug)]
pub(super) struct KeyedPosts {
    connections: Arc<Semaphore>,
    turns: Guarded<BTreeMap<String, Arc<Mutex<()>>>>,
}

/// A place in the queue of a key, from before the wait until the post has ended.
pub(super) struct Turn<'a> {
    posts: &'a KeyedPosts,
    key: &'a str,
    queue: Option<Arc<Mutex<()>>>,
    held: Option<(OwnedMutexGuard<()>, OwnedSemaphorePermit)>,
}

impl KeyedPosts {
    pub(super) fn new(connections: u32) -> Self {
        let share = usize::try_from(connections.div_ceil(2)).unwrap_or(1);
        Self {
            connections: Arc::new(Semaphore::new(share)),
            turns: Guarded::default(),
        }
    }

    /// Waits for this key's turn, and then for a connection's.
    pub(super) async fn turn<'a>(&'a self, key: &'a str) -> Turn<'a> {
        let queue = {
            let mut turns = self
                .turns
                .lock()
                .expect("nothing panics while it holds this");
            Arc::clone(turns.entry(key.to_owned()).or_default())
        };
        let mut turn = Turn {
            posts: self,
            key,
            queue: Some(Arc::clone(&queue)),
            held: None,
        };
        let alone = queue.lock_owned().await;
        let connections = Arc::clone(&self.connections);
        let connection = connections
            .acquire_owned()
            .await
            .expect("it is never closed");
        turn.held = Some((alone, connection));
        turn
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut turns = self
            .posts
            .turns
            .lock()
            .expect("nothing panics while it holds this");
        self.held.take();
        self.queue.take();
        // Only the map's own reference is left: no other post waits for this key.
        if turns
            .get(self.key)
            .is_some_and(|queue| Arc::strong_count(queue) == 1)
        {
            turns.remove(self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn posts_of_one_key_take_turns_and_leave_no_trace() {
        let posts = KeyedPosts::new(8);
        let first = posts.turn("a").await;
        let other = posts.turn("b").await;
        let second = posts.turn("a");
        tokio::pin!(second);
        let waits = tokio::select! { biased; _ = &mut second => false, () = async {} => true };
        assert!(waits, "the second of a key waits");
        let third = async { drop(posts.turn("a").await) };
        let gave_up = tokio::select! { biased; () = third => false, () = async {} => true };
        assert!(gave_up, "and so does the third, which gives up");
        drop(first);
        drop(second.await);
        drop(other);
        assert!(posts.turns.lock().expect("no panic").is_empty());
    }

    #[tokio::test]
    async fn keys_together_leave_half_of_the_connections_alone() {
        let posts = KeyedPosts::new(2);
        let _first = posts.turn("a").await;
        let second = posts.turn("b");
        tokio::pin!(second);
        let waits = tokio::select! { biased; _ = &mut second => false, () = async {} => true };
        assert!(waits);
    }
}
