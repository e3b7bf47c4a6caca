//! Running name lookups, at most one per name. An attempt whose name is already being looked up
//! waits for the same result.
//!
//! A lookup is a thread of the system's resolver that cannot be cancelled. If a name server does
//! not respond, the thread outlives its attempt. With one lookup per attempt, the backlog of one
//! such name would use all threads, and the lookups of all other names would wait. Results are not
//! cached here, because the system's resolver does that.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use parking_lot::Mutex;

/// Result of a lookup: addresses, or the text of the error.
pub(super) type Lookup = Result<Vec<IpAddr>, String>;

/// The running lookups by name.
type Running = BTreeMap<String, Shared<BoxFuture<'static, Lookup>>>;

/// Shared by all attempts of a process.
#[derive(Clone, Default)]
pub(super) struct Lookups(Arc<Mutex<Running>>);

impl Lookups {
    /// Returns the result of the lookup of this name, and starts one if none is running. If the
    /// caller drops the future, the lookup continues.
    pub(super) async fn find<F>(&self, name: &str, lookup: impl FnOnce(String) -> F) -> Lookup
    where
        F: Future<Output = Lookup> + Send + 'static,
    {
        let start = || {
            let (lookups, name, lookup) = (self.clone(), name.to_owned(), lookup(name.to_owned()));
            let ended = tokio::spawn(async move {
                let result = AssertUnwindSafe(lookup).catch_unwind().await;
                // Removed before the result is seen, so that a later attempt starts a new lookup.
                lookups.0.lock().remove(&name);
                result.unwrap_or_else(|_| Err("the lookup panicked".to_owned()))
            });
            ended.map(|ended| ended.unwrap_or_else(|error| Err(error.to_string()))).boxed().shared()
        };
        let result = self.0.lock().entry(name.to_owned()).or_insert_with(start).clone();
        result.await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use futures_util::future::join_all;
    use tokio::sync::Semaphore;
    use tokio::time::timeout;

    use super::*;

    /// A resolver that counts its lookups. Each one ends when the test adds a permit.
    #[derive(Clone)]
    struct SlowResolver {
        started: Arc<AtomicUsize>,
        permits: Arc<Semaphore>,
    }

    impl SlowResolver {
        fn new() -> Self {
            Self { started: Arc::default(), permits: Arc::new(Semaphore::new(0)) }
        }

        fn started(&self) -> usize {
            self.started.load(Ordering::SeqCst)
        }

        async fn look_up(self, name: String) -> Lookup {
            self.started.fetch_add(1, Ordering::SeqCst);
            self.permits.acquire().await.expect("never closed").forget();
            Err(name)
        }
    }

    // Virtual time. The attempts end one after the other, each by its own deadline.
    #[tokio::test(start_paused = true)]
    async fn attempts_share_the_lookup_of_a_silent_name() {
        let (resolver, lookups) = (SlowResolver::new(), Lookups::default());
        for _ in 0..1_000 {
            let find = lookups.find("silent.test", |name| resolver.clone().look_up(name));
            assert!(timeout(Duration::from_secs(1), find).await.is_err());
        }
        assert_eq!(resolver.started(), 1);
    }

    #[tokio::test]
    async fn all_waiting_attempts_get_the_result_and_it_is_not_cached() {
        let (resolver, lookups) = (SlowResolver::new(), Lookups::default());
        let find = |name| lookups.find(name, |name| resolver.clone().look_up(name));
        resolver.permits.add_permits(2);
        let results = join_all([find("a.test"), find("b.test"), find("a.test")]).await;
        let names = ["a.test", "b.test", "a.test"].map(|name| Err(name.to_owned()));
        assert_eq!(results, names);
        assert_eq!(resolver.started(), 2);
        resolver.permits.add_permits(1);
        assert!(find("a.test").await.is_err());
        assert_eq!(resolver.started(), 3, "no result is cached");
    }

    // Without the entry's drop, every later attempt at this name would wait for its deadline.
    #[tokio::test]
    async fn panicked_lookup_returns_an_error_and_can_be_repeated() {
        let lookups = Lookups::default();
        let panicked = lookups.find("a.test", |_| async { panic!("a bug") });
        assert_eq!(panicked.await, Err("the lookup panicked".to_owned()));
        let repeated = lookups.find("a.test", |_| async { Ok(Vec::new()) });
        assert_eq!(repeated.await, Ok(Vec::new()));
    }
}
