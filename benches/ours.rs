//! The dispatcher side: its store, called as by the worker, with payloads of 300 bytes.

use std::time::Duration;

use chrono::Utc;
use dispatcher::config::Config;
use dispatcher::event::{AttemptResult, Claim, Disposition, Outcome, Settlement, WorkerId};
use dispatcher::store::{ClaimLimit, PgStore, SETTLE_BATCH_MAX, Store, StoreError};
use sqlx::PgPool;
use tokio::sync::Mutex;

use crate::backlog;
use crate::sides::{Backlog, Side};

/// Worker id of all claims.
const WORKER: WorkerId = WorkerId(1);

/// Longer than any round.
const LEASE: Duration = Duration::from_secs(600);

/// A target that gets no request.
const TARGET: &str = "http://127.0.0.1:9/webhook";

/// Events per refill.
const FILL_ROWS: usize = 50_000;

// The bounds of the index spare the future events.
const DELETE_LEASED: &str = "
delete from webhook_events where status = 'pending' and next_retry_at <= now() and lease_token is not null";

// The first read of the index marks entries of deleted rows as dead. It is not part of the
// measurement.
const READ_INDEX: &str = "
select id from webhook_events where status = 'pending' and next_retry_at <= now() and lease_token is null
order by next_retry_at limit 1";

/// The dispatcher's store with a backlog.
#[derive(Debug)]
pub struct Ours {
    store: PgStore,
    pool: PgPool,
    backlog: Backlog,
    due: Mutex<Option<usize>>,
}

impl Ours {
    /// Opens the store over a new database.
    ///
    /// # Errors
    /// If the schema cannot be created.
    pub async fn open(url: &str, workers: u32, backlog: Backlog) -> anyhow::Result<Self> {
        let lookup = |name: &str| match name {
            "DATABASE_URL" => Some(url.to_owned()),
            "PRESENCE" => Some("false".to_owned()),
            "WORK_CONNECTIONS" => Some(workers.to_string()),
            _ => None,
        };
        let store = PgStore::open(&Config::from_lookup(lookup)?.store);
        store.migrate().await?;
        let pool = PgPool::connect(url).await?;
        Ok(Self { store, pool, backlog, due: Mutex::default() })
    }
}

impl Side for Ours {
    async fn provide(&self, rows: usize, spare: usize) {
        let mut due = self.due.lock().await;
        if due.is_none() {
            let future = self.backlog.future;
            eprintln!("storing {future} future events");
            let filled = backlog::fill_future(&self.pool, TARGET, 0..future).await;
            filled.expect("the future events are stored");
        }
        let run = |sql| sqlx::query(sql).execute(&self.pool);
        run(DELETE_LEASED).await.expect("the server responds");
        let (left, needed) = (due.unwrap_or(0), self.backlog.due + rows + spare);
        let mut more = 0;
        if left < needed {
            more = needed - left + FILL_ROWS.min(self.backlog.due);
            let filled = backlog::fill(&self.pool, TARGET, 0..more).await;
            filled.expect("the backlog is stored");
            let settled = backlog::settle_down(&self.pool, "webhook_events").await;
            settled.expect("vacuum succeeds");
        }
        // The round will remove these rows.
        *due = Some(left + more - rows);
        run(READ_INDEX).await.expect("the server responds");
    }

    async fn claim(&self, batch: usize, settle: bool) -> usize {
        let (claimed, failed) =
            with_retries(|| self.store.claim(WORKER, LEASE, ClaimLimit::of(batch))).await;
        // A claim without a reply may have leased its rows.
        let mut due = self.due.lock().await;
        *due = due.map(|due| due.saturating_sub(failed * batch));
        drop(due);
        let claims = claimed.claims;
        let taken = claims.len();
        if settle {
            let settlements: Vec<_> = claims.iter().map(delivered).collect();
            // The worker limits its batches in the same way.
            for part in settlements.chunks(SETTLE_BATCH_MAX) {
                with_retries(|| self.store.settle(part.to_vec())).await;
            }
        }
        taken
    }
}

/// Repeats a failed call, as the worker does: a stalled disk must not end the benchmark. Returns
/// the number of failed calls, too.
async fn with_retries<V, F: Future<Output = Result<V, StoreError>>>(
    call: impl Fn() -> F,
) -> (V, usize) {
    let mut failed = 0;
    loop {
        match call().await {
            Ok(value) => return (value, failed),
            Err(error) => eprintln!("{error}; repeating the call"),
        }
        failed += 1;
    }
}

fn delivered(claim: &Claim) -> Settlement {
    Settlement {
        key: claim.key,
        result: AttemptResult {
            outcome: Outcome::Delivered { status: 200 },
            error: None,
            snippet: Some(b"ok".to_vec()),
        },
        disposition: Disposition::Delivered,
        started_at: Utc::now(),
        duration: Duration::from_millis(12),
    }
}
