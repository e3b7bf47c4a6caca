use std::time::Duration;

use uuid::Uuid;

use super::*;
use crate::event::{EventId, Target};

/// A queue whose posts wait for one second.
struct Posts {
    queue: Queue<u32>,
    now: Instant,
    number: u32,
}

impl Posts {
    fn new() -> Self {
        Self { queue: Queue::new(4), now: Instant::now(), number: 0 }
    }

    /// Adds a post. Its waiter is its number.
    fn push(&mut self, key: Option<&str>, bytes: usize, url: &str) -> u32 {
        let number = self.number;
        self.number += 1;
        let event = NewEvent {
            id: EventId(Uuid::from_u128(u128::from(number))),
            payload: vec![b'1'; bytes],
            target: Target::Given(url.to_owned()),
            idempotency_key: key.map(str::to_owned),
        };
        let deadline = self.now + Duration::from_secs(1);
        self.queue.push(Item { event, deadline, waiter: number });
        number
    }

    fn plain(&mut self, count: usize) {
        for _ in 0..count {
            self.push(None, 1, "http://a/");
        }
    }

    fn keyed(&mut self, keys: &[&str]) {
        for key in keys {
            self.push(Some(key), 1, "http://a/");
        }
    }

    fn next(&mut self) -> Option<Batch<u32>> {
        self.queue.next_batch(self.now)
    }

    /// The waiters of the next batch, which stays on its way.
    fn sent(&mut self) -> Vec<u32> {
        self.next().map(|batch| waiters(&batch.items)).unwrap_or_default()
    }
}

fn waiters(items: &[Item<u32>]) -> Vec<u32> {
    items.iter().map(|item| item.waiter).collect()
}

fn refused(sqlstate: &str) -> StoreError {
    StoreError::Refused { operation: "test", sqlstate: sqlstate.into(), reason: String::new() }
}

#[test]
fn posts_that_arrive_during_a_batch_form_the_next_one() {
    let mut posts = Posts::new();
    posts.plain(1);
    let first = posts.next().expect("a post alone is sent immediately");
    posts.plain(3);
    assert!(posts.sent().is_empty(), "a second batch would not be full");
    assert_eq!(waiters(&posts.queue.stored(first)), [0]);
    assert_eq!(posts.sent(), [1, 2, 3]);
}

#[test]
fn only_a_full_batch_is_sent_beside_another_and_at_most_two() {
    let mut posts = Posts::new();
    posts.plain(1);
    assert_eq!(posts.sent().len(), 1);
    posts.plain(BATCH_MAX - 1);
    assert_eq!(posts.sent().len(), 0);
    posts.plain(BATCH_MAX + 1);
    assert_eq!(posts.sent().len(), BATCH_MAX);
    assert_eq!(posts.sent().len(), 0, "two are on their way");
}

#[test]
fn batch_has_at_most_256_kib() {
    let mut posts = Posts::new();
    for _ in 0..3 {
        posts.push(None, BATCH_BYTES_MAX / 2, "http://a/");
    }
    assert_eq!(posts.sent(), [0, 1]);
    assert!(posts.sent().is_empty(), "the rest is not full");
    posts.push(None, BATCH_BYTES_MAX / 2, "http://a/");
    assert_eq!(posts.sent(), [2, 3]);
}

#[test]
fn large_posts_are_sent_alone_and_use_half_of_the_connections() {
    let mut posts = Posts::new();
    for _ in 0..3 {
        posts.push(None, BATCH_BYTES_MAX, "http://a/");
    }
    assert_eq!([posts.sent(), posts.sent(), posts.sent()], [vec![0], vec![1], vec![]]);
    posts.plain(1);
    posts.keyed(&["a"]);
    assert_eq!([posts.sent(), posts.sent()], [[3], [4]], "others do not wait for them");
}

#[test]
fn posts_with_keys_are_sorted_and_in_batches_of_their_own() {
    let mut posts = Posts::new();
    posts.keyed(&["b", "a"]);
    posts.plain(1);
    posts.keyed(&["c"]);
    assert_eq!([posts.sent(), posts.sent()], [vec![2], vec![1, 0, 3]]);
}

#[test]
fn second_post_with_a_key_waits_for_the_first() {
    let mut posts = Posts::new();
    posts.keyed(&["a", "a", "b"]);
    let first = posts.next().expect("posts wait");
    assert_eq!(waiters(&first.items), [0, 2]);
    posts.keyed(&["a", "b"]);
    assert!(posts.sent().is_empty());
    posts.queue.stored(first);
    assert_eq!(posts.sent(), [1, 4]);
}

#[test]
fn refused_batch_is_halved_until_the_row_is_alone() {
    let mut posts = Posts::new();
    posts.plain(5);
    let refuses = |batch: &Batch<u32>| batch.items.iter().any(|item| item.waiter == 3);
    let (mut stored, mut failed) = (Vec::new(), Vec::new());
    while let Some(batch) = posts.next() {
        if refuses(&batch) {
            failed.extend(posts.queue.failed(batch, &refused("23514")));
        } else {
            stored.extend(posts.queue.stored(batch));
        }
    }
    assert_eq!((waiters(&stored), waiters(&failed)), (vec![0, 1, 2, 4], vec![3]));
}

// A statement that timed out or lost its connection says nothing about its rows.
#[test]
fn other_error_fails_the_whole_batch() {
    let mut posts = Posts::new();
    posts.keyed(&["a", "b"]);
    let batch = posts.next().expect("posts wait");
    assert_eq!(waiters(&posts.queue.failed(batch, &refused("57014"))), [0, 1]);
    posts.keyed(&["a"]);
    assert_eq!(posts.sent(), [2], "the key is free");
}

#[test]
fn post_with_a_locked_key_is_sent_again_alone_and_delays_no_other_key() {
    let mut posts = Posts::new();
    posts.keyed(&["held", "a", "held"]);
    let locked = refused("55P03");
    let both = posts.next().expect("posts wait");
    assert_eq!(posts.queue.failed(both, &locked).len(), 0);
    let other = posts.next().expect("the first half");
    assert_eq!(waiters(&posts.queue.stored(other)), [1]);
    let alone = posts.next().expect("the other half");
    assert_eq!(posts.queue.failed(alone, &locked).len(), 0);
    posts.keyed(&["b"]);
    assert_eq!(posts.sent(), [3], "the second post with the key waits");
    // A post that Postgres may refuse takes its turn beside the one with the key.
    posts.push(None, 1, "http://ü/");
    let again = posts.next().expect("the post with the key");
    assert_eq!(waiters(&again.items), [0]);
    assert!(posts.sent().is_empty());
    assert_eq!(waiters(&posts.queue.stored(again)), [0]);
}

#[test]
fn post_whose_client_has_a_response_is_not_sent() {
    let mut posts = Posts::new();
    posts.keyed(&["a", "b"]);
    let batch = posts.next().expect("posts wait");
    posts.queue.failed(batch, &refused("55P03"));
    posts.plain(1);
    posts.now += Duration::from_secs(1);
    assert!(posts.sent().is_empty());
    posts.keyed(&["a"]);
    posts.plain(1);
    assert_eq!([posts.sent(), posts.sent()], [[4], [3]], "its key is free");
}

// Otherwise one open transaction elsewhere would stop all targets that are not ASCII.
#[test]
fn posts_that_are_sent_alone_take_turns_with_a_locked_key() {
    let mut posts = Posts::new();
    posts.keyed(&["held"]);
    let keyed = posts.next().expect("a post waits");
    posts.queue.failed(keyed, &refused("55P03"));
    for _ in 0..2 {
        posts.push(None, 1, "http://ü/");
    }
    let mut sent = Vec::new();
    for _ in 0..4 {
        let batch = posts.next().expect("posts wait");
        sent.extend(waiters(&batch.items));
        match sent.last() {
            Some(0) => posts.queue.failed(batch, &refused("55P03")),
            _ => posts.queue.stored(batch),
        };
    }
    assert_eq!(sent, [0, 1, 0, 2]);
}
