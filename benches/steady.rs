//! Clients that post at a steady pace, whatever they are answered, and write down what that was.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mock_receiver::Journal;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use crate::load::Client;

/// A client that has no answer after so long goes on without.
const PATIENCE: Duration = Duration::from_secs(60);

/// The clients, at work.
#[derive(Debug)]
pub struct Steady {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

/// One post. Its number is the last part of its target's path; the time is the journal's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Posted {
    /// Which event it was.
    pub number: u64,
    /// When it was sent.
    pub begun_us: u64,
    /// How long its answer took.
    pub took: Duration,
    /// The status of its answer, if there was a whole one.
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
    /// So many clients, each with a post every so often; one that waits for its answer lets its next turns pass.
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
        Self {
            clients: clients.collect(),
            shared,
        }
    }

    /// Lets every client have its last answer, and gives all that was posted, in no order.
    ///
    /// # Errors
    /// When a client panicked.
    pub async fn stop(self) -> anyhow::Result<Vec<Posted>> {
        self.shared.stopped.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.await?;
        }
        let posted = self.shared.posted.lock();
        Ok(std::mem::take(
            &mut *posted.unwrap_or_else(PoisonError::into_inner),
        ))
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
            let answer = timeout(PATIENCE, self.post(client.take(), number)).await;
            let mut status = None;
            if let Ok(Ok((kept, answered))) = answer {
                (client, status) = (Some(kept), Some(answered));
            }
            let posted = Posted {
                number,
                begun_us,
                took: began.elapsed(),
                status,
            };
            let mut all = self.posted.lock().unwrap_or_else(PoisonError::into_inner);
            all.push(posted);
        }
    }

    /// Posts over the connection that was kept, if there is one.
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
