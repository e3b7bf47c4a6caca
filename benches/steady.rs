//! Clients that post at a constant rate and record each response.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mock_receiver::Journal;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use crate::load::Client;

/// A client stops waiting for a response after this time.
const RESPONSE_WAIT_MAX: Duration = Duration::from_secs(60);

/// The running clients.
#[derive(Debug)]
pub struct Steady {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

/// One post. Times are those of the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Posted {
    /// Number of the event, the last part of its target path.
    pub number: u64,
    /// Time of the request.
    pub begun_us: u64,
    /// Time until the response.
    pub took: Duration,
    /// Status of a complete response.
    pub status: Option<u16>,
}

#[derive(Debug)]
struct Shared {
    host: SocketAddr,
    targets: Vec<String>,
    journal: Journal,
    next: AtomicU64,
    stopped: AtomicBool,
    posted: Mutex<Vec<Posted>>,
}

impl Steady {
    /// Starts `clients` clients, each with a post per interval `every`. A client that waits for a
    /// response skips its next posts.
    pub fn start(
        host: SocketAddr,
        targets: Vec<String>,
        journal: Journal,
        clients: u32,
        every: Duration,
    ) -> Self {
        let shared = Arc::new(Shared {
            host,
            targets,
            journal,
            next: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            posted: Mutex::default(),
        });
        let now = Instant::now();
        let clients = (0..clients).map(|client| {
            let first = now + every * client / clients;
            tokio::spawn(Arc::clone(&shared).post_from(first, every))
        });
        Self { clients: clients.collect(), shared }
    }

    /// Waits for the last response of each client and returns all posts, unordered.
    ///
    /// # Errors
    /// If a client panicked.
    pub async fn stop(self) -> anyhow::Result<Vec<Posted>> {
        self.shared.stopped.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.await?;
        }
        let posted = self.shared.posted.lock();
        Ok(std::mem::take(&mut *posted.unwrap_or_else(PoisonError::into_inner)))
    }
}

impl Shared {
    async fn post_from(self: Arc<Self>, first: Instant, every: Duration) {
        let mut ticks = interval_at(first, every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut client = None;
        loop {
            ticks.tick().await;
            if self.stopped.load(Ordering::Relaxed) {
                return;
            }
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let (begun_us, began) = (self.journal.now_us(), Instant::now());
            let response = timeout(RESPONSE_WAIT_MAX, self.post(client.take(), number)).await;
            let mut status = None;
            if let Ok(Ok((kept, received))) = response {
                (client, status) = (Some(kept), Some(received));
            }
            let posted = Posted { number, begun_us, took: began.elapsed(), status };
            let mut all = self.posted.lock().unwrap_or_else(PoisonError::into_inner);
            all.push(posted);
        }
    }

    /// Posts over the kept connection or a new one.
    async fn post(&self, kept: Option<Client>, number: u64) -> anyhow::Result<(Client, u16)> {
        let mut client = match kept {
            Some(client) => client,
            None => Client::connect(self.host).await?,
        };
        let target = &self.targets[usize::try_from(number)? % self.targets.len()];
        let status = client.try_post(&format!("{target}/{number}")).await?;
        Ok((client, status))
    }
}
