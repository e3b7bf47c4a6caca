//! The state of a worker, shared by the loop and the phases.
//!
//! A leaf file: it imports the pure deciders of the phases, and every phase imports it.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::attempting::hosts::{Hosts, Limits};
use super::claiming::orphans::Orphans;
use super::claiming::scheduler::Scheduler;
use super::completion::{ClaimedEvent, Completion, Work};
use super::database::Database;
use super::reclaiming::sweeper::Sweeper;
use super::settling::batches::Batches;
use crate::config::WorkerConfig;
use crate::event::{LeaseToken, Release, WorkerId};
use crate::hand_off::{HandOff, HandedOver};
use crate::metrics::Metrics;
use crate::signature::Signer;
use crate::store::StoreError;
use crate::throttle::Throttle;
use crate::worker_health::WorkerHealth;

const EXHAUSTION_LOG_INTERVAL: Duration = Duration::from_secs(30);

/// The collaborators of a worker.
#[derive(Debug)]
pub struct Parts<S, P, T, R> {
    /// The events.
    pub store: S,
    /// Shows other workers that this worker runs.
    pub presence: P,
    /// Sends the attempts.
    pub transport: T,
    /// Signs the attempts.
    pub signer: Signer,
    /// The only source of randomness of the worker.
    pub rng: R,
    /// Unique among all workers of the database.
    pub id: WorkerId,
    /// Notified when the API of this process has stored a pending event.
    pub wake: Arc<Notify>,
    /// What this worker can take from the API of this process.
    pub hand_off: Arc<HandOff>,
    /// The events that the API hands over.
    pub handed_over: mpsc::UnboundedReceiver<HandedOver>,
    /// Counters of this process.
    pub metrics: Arc<Metrics>,
    /// Signs of life for `/readyz`.
    pub health: Arc<WorkerHealth>,
}

/// A worker. It does nothing until [`Worker::run`] is polled.
pub struct Worker<S, P, T, R> {
    pub(super) config: WorkerConfig,
    pub(super) parts: Parts<S, P, T, R>,
    pub(super) work: FuturesUnordered<Work<Self>>,
    /// Cancelled when the worker drains. A claim that still waits for presence is then not sent.
    pub(super) stop: CancellationToken,
    pub(super) scheduler: Scheduler,
    pub(super) orphans: Orphans,
    /// Tokens of the claims that this worker has received and not yet ended.
    pub(super) tokens: BTreeSet<LeaseToken>,
    /// Those of `tokens` that the API handed over.
    pub(super) handed: BTreeSet<LeaseToken>,
    /// Claimed events whose payloads must be fetched, one at a time.
    pub(super) to_fetch: VecDeque<ClaimedEvent>,
    pub(super) is_fetching: bool,
    pub(super) hosts: Hosts<ClaimedEvent>,
    /// Number of open attempts.
    pub(super) in_flight: usize,
    pub(super) exhaustion_log: Throttle,
    pub(super) batches: Batches,
    pub(super) releases: Vec<Release>,
    pub(super) is_releasing: bool,
    pub(super) sweeper: Sweeper,
    pub(super) database: Database,
}

impl<S, P, T, R> Worker<S, P, T, R> {
    /// Creates a worker. The first claim and the first sweep are due immediately.
    pub fn new(config: WorkerConfig, parts: Parts<S, P, T, R>) -> Self {
        let now = Instant::now();
        let (in_flight_max, per_host_max) = (config.in_flight_max, config.in_flight_per_host_max);
        let claim_max = config.lease.saturating_sub(config.http_timeout);
        Self {
            work: FuturesUnordered::new(),
            stop: CancellationToken::new(),
            scheduler: Scheduler::new(config.poll_interval, in_flight_max, claim_max, now),
            orphans: Orphans::new(config.lease),
            tokens: BTreeSet::new(),
            handed: BTreeSet::new(),
            to_fetch: VecDeque::new(),
            is_fetching: false,
            hosts: Hosts::new(Limits { in_flight_max, per_host_max }),
            in_flight: 0,
            exhaustion_log: Throttle::new(EXHAUSTION_LOG_INTERVAL),
            batches: Batches::default(),
            releases: Vec::new(),
            is_releasing: false,
            sweeper: Sweeper::new(parts.id, config.lease, now),
            database: Database::new(now),
            config,
            parts,
        }
    }

    /// A claim of this worker has ended.
    pub(super) fn forget(&mut self, token: LeaseToken) {
        self.tokens.remove(&token);
        self.handed.remove(&token);
    }

    /// Runs a future together with the others of the worker. `on_result` handles its result.
    pub(super) fn start<V: Send + 'static>(
        &mut self,
        work: impl Future<Output = V> + Send + 'static,
        on_result: impl FnOnce(&mut Self, V) + Send + 'static,
    ) {
        // An async block would hold the future twice, with 4 KB more for each attempt.
        self.work.push(Box::pin(work.map(|result| {
            let completion: Completion<Self> = Box::new(|worker| on_result(worker, result));
            completion
        })));
    }

    /// Reports a result of the store to the outage detection. Returns the value if there is one.
    pub(super) fn observe<V>(&mut self, result: Result<V, StoreError>) -> Option<V> {
        let now = Instant::now();
        match result {
            Ok(value) => {
                self.database.answered(now);
                Some(value)
            }
            Err(error) => {
                self.database.failed(&error, now);
                None
            }
        }
    }
}
