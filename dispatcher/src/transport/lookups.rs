//! Lookups under way, one a name: an attempt at a name that is being looked up waits for the same answer.
//!
//! A lookup is a thread of the system's resolver that cannot be broken off: where a name server is silent it outlives its
//! attempt. Were each attempt to begin one of its own, the backlog of one silent name would take all threads there are, and
//! names that answer would wait for them. It must not keep an answer for later: that is the resolver's own affair.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::watch;

/// The addresses of a name, port 0 each, or why there are none.
pub(super) type Found = Result<Vec<SocketAddr>, String>;

/// Shared by all attempts.
#[derive(Clone, Default)]
pub(super) struct Lookups {
    under_way: Arc<Mutex<BTreeMap<String, watch::Receiver<Option<Found>>>>>,
}

/// The place of a lookup: free again when it has ended, however it did.
struct Place {
    lookups: Lookups,
    name: String,
}

impl Lookups {
    /// What the lookup of this name finds; it is begun unless one is under way. Giving up waiting does not end it.
    pub(super) async fn find<F>(&self, name: &str, lookup: impl FnOnce(String) -> F) -> Found
    where
        F: Future<Output = Found> + Send + 'static,
    {
        let mut found = self.join(name, lookup);
        match found.wait_for(Option::is_some).await {
            Ok(found) => found.clone().expect("it was waited for"),
            Err(_) => Err("its lookup broke off".to_owned()),
        }
    }

    fn join<F>(
        &self,
        name: &str,
        lookup: impl FnOnce(String) -> F,
    ) -> watch::Receiver<Option<Found>>
    where
        F: Future<Output = Found> + Send + 'static,
    {
        let mut under_way = self.under_way();
        if let Some(found) = under_way.get(name) {
            return found.clone();
        }
        let (tell, found) = watch::channel(None);
        under_way.insert(name.to_owned(), found.clone());
        let place = Place {
            lookups: self.clone(),
            name: name.to_owned(),
        };
        let lookup = lookup(name.to_owned());
        tokio::spawn(async move {
            let found = lookup.await;
            // Before it is told: whoever comes after that begins a new one.
            drop(place);
            tell.send_replace(Some(found));
        });
        found
    }

    fn under_way(&self) -> MutexGuard<'_, BTreeMap<String, watch::Receiver<Option<Found>>>> {
        self.under_way
            .lock()
            .expect("nothing panics while it holds this")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.lookups.under_way().remove(&self.name);
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

    /// A resolver that counts the threads it was given and answers when it may.
    #[derive(Clone)]
    struct Slow {
        begun: Arc<AtomicUsize>,
        may: Arc<Semaphore>,
    }

    impl Slow {
        fn new() -> Self {
            Self {
                begun: Arc::default(),
                may: Arc::new(Semaphore::new(0)),
            }
        }

        async fn look_up(self, name: String) -> Found {
            self.begun.fetch_add(1, Ordering::SeqCst);
            self.may.acquire().await.expect("never closed").forget();
            Err(name)
        }
    }

    // Virtual time. The attempts give up one after the other, as they do by their deadlines.
    #[tokio::test(start_paused = true)]
    async fn attempts_at_a_silent_name_share_one_lookup_that_outlives_them() {
        let (slow, lookups) = (Slow::new(), Lookups::default());
        for _ in 0..1_000 {
            let find = lookups.find("silent.test", |name| slow.clone().look_up(name));
            assert!(timeout(Duration::from_secs(1), find).await.is_err());
        }
        assert_eq!(slow.begun.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn all_who_wait_are_answered_and_the_next_to_come_asks_anew() {
        let (slow, lookups) = (Slow::new(), Lookups::default());
        let find = |name| lookups.find(name, |name| slow.clone().look_up(name));
        slow.may.add_permits(2);
        let found = join_all([find("a.test"), find("b.test"), find("a.test")]).await;
        let told: Vec<_> = found.iter().map(|found| found.as_ref().err()).collect();
        let names = ["a.test", "b.test", "a.test"].map(str::to_owned);
        assert_eq!(told, names.each_ref().map(Some));
        assert_eq!(slow.begun.load(Ordering::SeqCst), 2);
        slow.may.add_permits(1);
        assert!(find("a.test").await.is_err());
        assert_eq!(slow.begun.load(Ordering::SeqCst), 3, "nothing is kept");
    }

    // A name whose lookup panicked must not be lost for ever.
    #[tokio::test]
    async fn a_lookup_that_breaks_off_is_told_and_begun_again() {
        let lookups = Lookups::default();
        let broken = lookups.find("a.test", |_| async { panic!("a bug") });
        assert_eq!(broken.await, Err("its lookup broke off".to_owned()));
        let found = lookups.find("a.test", |_| async { Ok(Vec::new()) });
        assert_eq!(found.await, Ok(Vec::new()));
    }
}
