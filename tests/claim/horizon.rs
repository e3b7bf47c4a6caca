//! Claims while an open transaction keeps dead entries in the index of due events, on a server that
//! is so slow that a claim may read only a few pages.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use chaos::postgres::connect;
use chaos::seed::{Seed, Stream};
use chrono::{DateTime, Utc};
use dispatcher::event::{
    AttemptResult, ClaimKey, EventId, LeaseHolder, Outcome, Release, Settled, Settlement, WorkerId,
};
use dispatcher::hand_off::HandOff;
use dispatcher::store::{
    CLAIM, ClaimLimit, Claimed, InsertedRows, NewRow, OwnLeases, PgPresence, PgStore, Reclaim,
    Reclaimed, Store, StoreError,
};
use dispatcher::transport::{NotSent, Request, Transport};
use dispatcher::worker::{Parts, Worker};
use sqlx::{Connection as _, PgConnection};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::support::app::{self, until};
use crate::support::fixture::{Bench, LEASE, WORKER};

/// Dead entries. A full scan of them reads several times as many pages as a claim may read.
const DEAD_ENTRIES: i64 = 20_000;
/// Pages that a claim may read.
const PAGES_MAX: u64 = 100;
/// Pages that a scan may read to find one event: the path through the index, and the row.
const PAGES_OF_ONE: u64 = 10;
/// Rows that were due in the last hour, and that only their own transaction has seen.
const INSERT: &str = "
insert into webhook_events
    (id, target_url, target_given, payload, status, round,
     attempt_count, failure_count, abandon_count, next_retry_at, created_at)
select gen_random_uuid(), 'http://127.0.0.1:9/dead', true, '{}', 'pending', 0, 0, 0, 0,
    now() - interval '1 hour' * n / $1, now()
from generate_series(1, $1) n";
const DELETE: &str = "delete from webhook_events where target_url = 'http://127.0.0.1:9/dead'";
/// The plan of a scan of the due events uses their index.
const INDEX_ONLY: &str =
    "set enable_seqscan = off; set enable_bitmapscan = off; set enable_sort = off";

/// The store over a slow server: a claim whose scan reads too many pages times out.
#[derive(Clone)]
struct SlowStore {
    store: PgStore,
    session: Arc<Mutex<PgConnection>>,
    timeouts: Arc<AtomicUsize>,
}

impl SlowStore {
    async fn new(bench: &Bench) -> Self {
        let mut session = connect(&bench.url).await.unwrap();
        sqlx::raw_sql(INDEX_ONLY).execute(&mut session).await.unwrap();
        Self {
            store: bench.store.clone(),
            session: Arc::new(Mutex::new(session)),
            timeouts: Arc::default(),
        }
    }

    /// The number of pages that the scan of a claim with this limit reads.
    async fn pages(&self, limit: ClaimLimit) -> u64 {
        let micros = |age: Duration| i64::try_from(age.as_micros()).unwrap();
        let (_, scan) = CLAIM.split_once("materialized (").unwrap();
        let (scan, _) = scan.split_once("for update skip locked").unwrap();
        let scan = scan.replace("$5", "$2").replace("$6", "$3").replace("$7", "$4");
        let explain = format!("explain (analyze, buffers, format json) {scan}");
        let plan = sqlx::query_scalar::<_, serde_json::Value>(sqlx::AssertSqlSafe(explain))
            .bind(i64::try_from(limit.events).unwrap())
            .bind(limit.due_from)
            .bind(micros(limit.range.newest))
            .bind(limit.range.oldest.map(micros));
        let plan = plan.fetch_one(&mut *self.session.lock().await).await.unwrap();
        let pages = |key| plan[0]["Plan"][key].as_u64().unwrap();
        pages("Shared Hit Blocks") + pages("Shared Read Blocks")
    }
}

impl Store for SlowStore {
    async fn insert(
        &self,
        events: &[NewRow<'_>],
        holder: Option<LeaseHolder>,
    ) -> Result<InsertedRows, StoreError> {
        self.store.insert(events, holder).await
    }

    async fn claim(
        &self,
        worker: WorkerId,
        lease: Duration,
        limit: ClaimLimit,
    ) -> Result<Claimed, StoreError> {
        if self.pages(limit).await <= PAGES_MAX {
            return self.store.claim(worker, lease, limit).await;
        }
        self.timeouts.fetch_add(1, Ordering::SeqCst);
        Err(StoreError::Refused {
            operation: "claiming events",
            sqlstate: "57014".to_owned(),
            reason: "canceling statement due to statement timeout".to_owned(),
        })
    }

    async fn payload_piece(
        &self,
        key: ClaimKey,
        from: usize,
        length: usize,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        self.store.payload_piece(key, from, length).await
    }

    async fn next_due(&self, after: DateTime<Utc>) -> Result<Option<Duration>, StoreError> {
        self.store.next_due(after).await
    }

    async fn settle(&self, settlements: Vec<Settlement>) -> Result<Vec<Settled>, StoreError> {
        self.store.settle(settlements).await
    }

    async fn release(&self, releases: Vec<Release>) -> Result<usize, StoreError> {
        self.store.release(releases).await
    }

    async fn own_leases(
        &self,
        worker: WorkerId,
        due_from: Option<DateTime<Utc>>,
    ) -> Result<OwnLeases, StoreError> {
        self.store.own_leases(worker, due_from).await
    }

    async fn absent_workers(&self, caller: WorkerId) -> Result<Vec<WorkerId>, StoreError> {
        self.store.absent_workers(caller).await
    }

    async fn reclaim(&self, reclaim: Reclaim) -> Result<Vec<Reclaimed>, StoreError> {
        self.store.reclaim(reclaim).await
    }

    async fn forget(&self, worker: WorkerId) -> Result<(), StoreError> {
        self.store.forget(worker).await
    }
}

/// Delivers every attempt without a request.
#[derive(Clone)]
struct Delivers;

impl Transport for Delivers {
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }

    async fn attempt(&self, _: Request) -> Result<AttemptResult, NotSent> {
        Ok(AttemptResult {
            outcome: Outcome::Delivered { status: 200 },
            error: None,
            snippet: None,
        })
    }
}

/// Keeps dead entries until the returned transaction ends.
async fn keep_dead_entries(bench: &Bench) -> PgConnection {
    let mut holder = connect(&bench.url).await.unwrap();
    let hold = "begin isolation level repeatable read; select count(*) from webhook_events";
    sqlx::raw_sql(hold).execute(&mut holder).await.unwrap();
    let mut writer = connect(&bench.url).await.unwrap();
    let mut writing = writer.begin().await.unwrap();
    sqlx::query(INSERT).bind(DEAD_ENTRIES).execute(&mut *writing).await.unwrap();
    sqlx::query(DELETE).execute(&mut *writing).await.unwrap();
    writing.commit().await.unwrap();
    holder
}

fn worker(bench: &Bench, store: SlowStore) -> Worker<SlowStore, PgPresence, Delivers, Stream> {
    let config = app::config(&bench.url, &[("PRESENCE", "false")]);
    let (hand_off, handed_over) = HandOff::new();
    let parts = Parts {
        hand_off,
        handed_over,
        presence: PgPresence::new(&bench.store, WORKER, config.worker.presence, Arc::default()),
        store,
        transport: Delivers,
        signer: config.transport.signer,
        rng: Seed::new(1).stream("worker"),
        id: WORKER,
        wake: Arc::default(),
        metrics: Arc::default(),
        health: Arc::default(),
    };
    Worker::new(config.worker, parts)
}

async fn until_delivered(bench: &Bench, id: EventId) {
    until("the event is delivered", || bench.holds(id, "status = 'delivered'")).await;
}

// The event that became due among the dead entries is found only if the full scan is divided: each
// full scan times out. The new event must not wait for that.
#[tokio::test(flavor = "multi_thread")]
async fn dead_entries_on_a_slow_server_stop_no_claims() {
    let bench = Bench::new().await;
    let ids = bench.accept(2).await;
    let old = "update webhook_events set next_retry_at = now() - interval '30 min' where id = $1";
    sqlx::query(old).bind(ids[0].0).execute(&bench.pool).await.unwrap();
    let holder = keep_dead_entries(&bench).await;
    let store = SlowStore::new(&bench).await;
    let (stop, timeouts) = (CancellationToken::new(), Arc::clone(&store.timeouts));
    let running = tokio::spawn(worker(&bench, store.clone()).run(stop.clone()));
    until_delivered(&bench, ids[1]).await;
    until_delivered(&bench, ids[0]).await;
    assert!(timeouts.load(Ordering::SeqCst) > 0, "no claim scanned all entries");
    let kept = store.pages(ClaimLimit::of(1)).await;
    assert!(kept > PAGES_MAX, "{kept} pages: the entries were removed during the test");
    stop.cancel();
    assert!(running.await.unwrap());
    holder.close().await.unwrap();
}

// Without a lower bound, each claim reads all dead entries before the first due event.
#[tokio::test]
async fn claim_from_the_scan_start_reads_no_dead_entries() {
    let bench = Bench::new().await;
    bench.accept(1).await;
    let holder = keep_dead_entries(&bench).await;
    let now = sqlx::query_scalar::<_, DateTime<Utc>>("select now()").fetch_one(&bench.pool);
    let from_now = ClaimLimit { due_from: Some(now.await.unwrap()), ..ClaimLimit::of(10) };
    let id = bench.accept(1).await[0];
    let store = SlowStore::new(&bench).await;
    let (bounded, full) = (store.pages(from_now).await, store.pages(ClaimLimit::of(10)).await);
    assert!(bounded <= PAGES_OF_ONE && full > PAGES_MAX, "{bounded} and {full} pages");
    let claimed = bench.store.claim(WORKER, LEASE, from_now).await.unwrap().claims;
    assert_eq!(claimed.iter().map(|claim| claim.key.id).collect::<Vec<_>>(), [id]);
    holder.close().await.unwrap();
}
