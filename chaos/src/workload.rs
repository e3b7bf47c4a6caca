//! The workload: clients that post the planned events and read their states.
//!
//! A complete 202 is `ok`. A refused connection or a 4xx of the contract is `fail`, because the
//! event was certainly not stored. Everything else is `info`, which is unknown. An unknown post is
//! repeated only under its idempotency key, as a new op. Without a key it stays unknown.

mod client;
mod upload;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::history::op::{Acknowledged, Health, Invoke, NotAcknowledged, Op, Section, State};
use crate::history::sha256_hex;
use crate::plan::PlannedEvent;
use crate::recorder::Recorder;
use client::{Client, Post, PostResult};

pub(crate) use client::API_KEY;
pub(crate) use upload::{Manner, Stop, Then};

/// Maximum number of posts of one event.
const POSTS_MAX: u32 = 100;
/// Wait between two posts of one event.
const POST_AGAIN: Duration = Duration::from_millis(100);
/// Maximum number of concurrent reads of states.
const READS_AT_ONCE: usize = 16;
/// Maximum number of reads of one state.
const READS_MAX: u32 = 5;

/// The APIs of one section with their readiness.
#[derive(Clone, Debug)]
pub struct Apis {
    apis: Arc<RwLock<Vec<Api>>>,
}

#[derive(Clone, Debug)]
struct Api {
    worker: String,
    url: String,
    ready: bool,
}

impl Apis {
    /// APIs by worker name and base URL. None is ready.
    #[must_use]
    pub fn new(workers: impl IntoIterator<Item = (String, String)>) -> Apis {
        let api = |(worker, url)| Api { worker, url, ready: false };
        Apis { apis: Arc::new(RwLock::new(workers.into_iter().map(api).collect())) }
    }

    /// Sets the readiness of the API of a worker.
    pub fn set_ready(&self, worker: &str, ready: bool) {
        let mut apis = self.apis.write().expect("no thread panics with the lock");
        for api in apis.iter_mut().filter(|api| api.worker == worker) {
            api.ready = ready;
        }
    }

    /// The name and the URL of the API for a try, in rotation. With `ready_only`, only ready APIs
    /// rotate if there is one.
    fn choose(&self, turn: u64, ready_only: bool) -> (String, String) {
        let apis = self.apis.read().expect("no thread panics with the lock");
        let ready: Vec<&Api> = apis.iter().filter(|api| api.ready).collect();
        let all: Vec<&Api> = apis.iter().collect();
        let choice = if ready_only && !ready.is_empty() { ready } else { all };
        let place = usize::try_from(turn).unwrap_or(0) % choice.len().max(1);
        let api = choice.get(place).expect("a section has at least one worker");
        (api.worker.clone(), api.url.clone())
    }

    fn has_ready(&self) -> bool {
        self.apis.read().expect("no thread panics with the lock").iter().any(|api| api.ready)
    }
}

/// Posts the events of one section, and reads their states.
#[derive(Clone, Debug)]
pub struct Workload {
    client: Client,
    recorder: Recorder,
    apis: Apis,
    targets: Arc<Vec<String>>,
    ops: Arc<AtomicU64>,
    posting_ended: CancellationToken,
}

impl Workload {
    /// A workload that posts to `apis`. `targets` has the URL of each receiver. The workloads of a
    /// run share the counter `ops`, so that op numbers are unique.
    #[must_use]
    pub fn new(
        recorder: Recorder,
        apis: Apis,
        targets: Arc<Vec<String>>,
        ops: Arc<AtomicU64>,
    ) -> Workload {
        Workload {
            client: Client::new(),
            recorder,
            apis,
            targets,
            ops,
            posting_ended: CancellationToken::new(),
        }
    }

    /// Ends each open post without an answer, and posts no further event.
    pub(crate) fn end_posting(&self) {
        self.posting_ended.cancel();
    }

    /// Posts every event at its time by `clients` clients. Returns when each post has an answer, or
    /// soon after `Workload::end_posting`.
    pub async fn run(&self, events: &[&PlannedEvent], clients: u32, begin: Instant) {
        let clients = clients.max(1) as usize;
        let client = |number: usize| async move {
            for event in events.iter().skip(number).step_by(clients) {
                let due = sleep_until(begin + Duration::from_millis(event.at_ms));
                tokio::select! {
                    biased;
                    () = self.posting_ended.cancelled() => return,
                    () = due => self.post_until_answered(event).await,
                }
            }
        };
        futures_util::future::join_all((0..clients).map(client)).await;
    }

    /// Posts an event until it is certain whether it was stored. Without a key, an unknown post
    /// ends this.
    pub(crate) async fn post_until_answered(&self, event: &PlannedEvent) {
        for _ in 0..POSTS_MAX {
            if self.posting_ended.is_cancelled() {
                return;
            }
            match self.post(event).await {
                Posted::Accepted if event.repeated => break,
                Posted::Accepted | Posted::Refused => return,
                Posted::Unknown if event.key.is_none() => return,
                Posted::Unknown | Posted::Unreachable => sleep(POST_AGAIN).await,
            }
        }
        if event.repeated {
            self.post(event).await;
        }
    }

    /// Posts an event once.
    pub(crate) async fn post(&self, event: &PlannedEvent) -> Posted {
        let op = self.next_op();
        if event.key.is_none() {
            self.wait_for_a_ready_api().await;
        }
        let (via, api) = self.apis.choose(op, event.key.is_none());
        let target = self.target(event);
        let post = post_of(event, &target);
        self.invoked(op, event, post, via, None);
        let result = tokio::select! {
            biased;
            result = self.client.post(&api, post) => result,
            () = self.posting_ended.cancelled() => {
                PostResult::Unknown(None, "no response until the bound on posting".to_owned())
            }
        };
        self.ended(op, event, result)
    }

    /// Posts an event once over a separate connection, in this manner.
    pub(crate) async fn upload(&self, event: &PlannedEvent, manner: Manner) -> Posted {
        let op = self.next_op();
        let (via, api) = self.apis.choose(op, false);
        let target = self.target(event);
        let post = post_of(event, &target);
        self.invoked(op, event, post, via, manner.cut_at(post));
        let result = upload::post(&api, post, manner).await;
        self.ended(op, event, result)
    }

    /// Requests the health of the API of a worker at its own address, and returns the status.
    pub(crate) async fn health(&self, via: &str, api: SocketAddr, path: &str) -> Option<u16> {
        let status = self.client.health(api, path).await;
        let health = Health { via: via.to_owned(), path: path.to_owned(), status };
        self.recorder.record(Op::Health(health));
        status
    }

    fn next_op(&self) -> u64 {
        self.ops.fetch_add(1, Ordering::SeqCst)
    }

    fn target(&self, event: &PlannedEvent) -> String {
        let receiver = &self.targets[event.receiver as usize];
        format!("{receiver}/{}", event.ordinal)
    }

    fn invoked(
        &self,
        op: u64,
        event: &PlannedEvent,
        post: Post<'_>,
        via: String,
        cut_at: Option<usize>,
    ) {
        self.recorder.record(Op::IngestInvoke(Invoke {
            op,
            ordinal: event.ordinal,
            section: event.section,
            key: event.key.clone(),
            sha256: sha256_hex(post.payload.as_bytes()),
            bytes: post.payload.len(),
            target: post.target.to_owned(),
            via,
            cut_at,
        }));
    }

    fn ended(&self, op: u64, event: &PlannedEvent, result: PostResult) -> Posted {
        let ordinal = event.ordinal;
        let not = |status, why| NotAcknowledged { op, ordinal, status, why };
        let (op, posted) = match result {
            PostResult::Accepted(id) => {
                (Op::IngestOk(Acknowledged { op, ordinal, id }), Posted::Accepted)
            }
            PostResult::Refused(status, why) => {
                (Op::IngestFail(not(Some(status), why)), Posted::Refused)
            }
            PostResult::Unreachable(why) => (Op::IngestFail(not(None, why)), Posted::Unreachable),
            PostResult::Unknown(status, why) => (Op::IngestInfo(not(status, why)), Posted::Unknown),
        };
        self.recorder.record(op);
        posted
    }

    /// A post without a key cannot be repeated if its result is unknown. As a load balancer would,
    /// the client does not send it to an API that is down.
    async fn wait_for_a_ready_api(&self) {
        let mut changed = self.recorder.changed();
        for _ in 0..POSTS_MAX {
            if self.apis.has_ready() || self.posting_ended.is_cancelled() {
                return;
            }
            let _ = tokio::time::timeout(POST_AGAIN, changed.changed()).await;
        }
    }

    /// Reads the state of one event from the first API that responds.
    pub async fn read(&self, ordinal: u64, id: &str) -> State {
        let mut last = State::unread(ordinal, id);
        for turn in 0..READS_MAX {
            let (_, api) = self.apis.choose(ordinal + u64::from(turn), true);
            last = self.client.read(&api, ordinal, id).await;
            if last.http == 200 || last.http == 404 {
                return last;
            }
            sleep(POST_AGAIN).await;
        }
        last
    }

    /// The final reads: writes the state of each acknowledged event of a section to the history.
    /// An event that no API returns before `until` is written as unread.
    pub async fn read_all(&self, section: Section, until: Instant) {
        let accepted = self.recorder.accepted(section);
        let reads = accepted.iter().map(|(ordinal, id)| async {
            let read = timeout_at(until, self.read(*ordinal, id)).await;
            read.unwrap_or_else(|_| State::unread(*ordinal, id))
        });
        let mut reads = stream::iter(reads).buffer_unordered(READS_AT_ONCE);
        while let Some(state) = reads.next().await {
            self.recorder.record(Op::State(state));
        }
    }
}

fn post_of<'a>(event: &'a PlannedEvent, target: &'a str) -> Post<'a> {
    Post { payload: &event.payload, target, key: event.key.as_deref() }
}

/// The certain result of a post.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Posted {
    /// The API returned an id.
    Accepted,
    /// A 4xx of the contract: the event was not stored.
    Refused,
    /// The connection was refused.
    Unreachable,
    /// The event may have been stored.
    Unknown,
}
