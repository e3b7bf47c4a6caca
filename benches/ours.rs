//! The side of the dispatcher: its own store, as the worker calls it, with claims that carry 300-byte payloads.

use std::time::Duration;

use chrono::Utc;
use dispatcher::config::Config;
use dispatcher::event::{AttemptResult, Claim, Disposition, Outcome, Settlement, WorkerId};
use dispatcher::store::{ClaimLimit, PgStore, SETTLE_BATCH_MAX, Store, StoreError, StoreOptions};
use sqlx::PgPool;
use tokio::sync::Mutex;

use crate::backlog;
use crate::sides::Side;

/// Whose claims these are.
const HOLDER: WorkerId = WorkerId(1);

/// Long enough for any round.
const LEASE: Duration = Duration::from_secs(600);

/// Nothing is sent there.
const TARGET: &str = "http://127.0.0.1:9/webhook";

/// Events that are added at a time.
const FILL_ROWS: usize = 50_000;

const UNLEASE: &str = "delete from webhook_events where lease_token is not null";

// Reading the index once marks the entries of deleted rows as dead, which is not to be measured.
const PEEK: &str = "
select id from webhook_events where status = 'pending' and next_retry_at <= now() and lease_token is null
order by next_retry_at limit 1";

/// The dispatcher's store over a backlog.
#[derive(Debug)]
pub struct Ours {
    store: PgStore,
    pool: PgPool,
    due: Mutex<usize>,
}

impl Ours {
    /// Over a fresh database.
    ///
    /// # Errors
    /// When the database does not take the schema.
    pub async fn open(url: &str, workers: u32) -> anyhow::Result<Self> {
        let lookup = |name: &str| match name {
            "DATABASE_URL" => Some(url.to_owned()),
            "PRESENCE" => Some("false".to_owned()),
            "WORK_CONNECTIONS" => Some(workers.to_string()),
            _ => None,
        };
        let store = PgStore::open(&StoreOptions::of(&Config::from_lookup(lookup)?));
        store.migrate().await?;
        let pool = PgPool::connect(url).await?;
        Ok(Self {
            store,
            pool,
            due: Mutex::new(0),
        })
    }
}

impl Side for Ours {
    async fn provide(&self, rows: usize, spare: usize) {
        let mut due = self.due.lock().await;
        let run = |sql| sqlx::query(sql).execute(&self.pool);
        run(UNLEASE).await.expect("the server answers");
        if *due < rows + spare {
            let more = (rows + spare).max(FILL_ROWS);
            let filled = backlog::fill(&self.pool, TARGET, 0..more).await;
            filled.expect("the backlog is stored");
            run("vacuum analyze webhook_events")
                .await
                .expect("the server vacuums");
            *due += more;
        }
        // What this round will take is gone after it.
        *due -= rows;
        run(PEEK).await.expect("the server answers");
    }

    async fn take(&self, batch: usize, settle: bool) -> usize {
        let (claimed, lost) =
            patiently(|| self.store.claim(HOLDER, LEASE, ClaimLimit::of(batch))).await;
        // Without a reply nobody knows, but the rows may be gone.
        let mut due = self.due.lock().await;
        *due = due.saturating_sub(lost * batch);
        drop(due);
        let claims = claimed.claims;
        let taken = claims.len();
        if settle {
            let settlements: Vec<_> = claims.iter().map(delivered).collect();
            // As the worker does it: no settle is larger than its bound.
            for part in settlements.chunks(SETTLE_BATCH_MAX) {
                patiently(|| self.store.settle(part.to_vec())).await;
            }
        }
        taken
    }
}

/// Again, as the worker would: a disk that stalls for seconds spoils a figure, not the run. Tells how many calls were lost.
async fn patiently<V, F: Future<Output = Result<V, StoreError>>>(
    call: impl Fn() -> F,
) -> (V, usize) {
    let mut lost = 0;
    loop {
        match call().await {
            Ok(value) => return (value, lost),
            Err(error) => eprintln!("{error}; trying again"),
        }
        lost += 1;
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
