//! Receivers with a script, and a store with events, for tests that step it by hand.

use std::sync::Arc;
use std::time::Duration;

use dispatcher::event::{
    AttemptResult, Claim, Disposition, EventId, NewEvent, Outcome, Settlement, Target, WorkerId,
};
use dispatcher::store::{ClaimLimit, PgStore, Store, StoreOptions};
use mock_receiver::{Behavior, Journal, Receiver, Script, Secrets, Seen};
use sqlx::{PgPool, Row};
use tokio::net::TcpListener;

use super::{app, db};

/// A receiver on loopback that knows the secret of [`app::settings`].
pub(crate) struct Endpoint {
    pub(crate) journal: Journal,
    receiver: Receiver,
}

impl Endpoint {
    /// Answers as the script says.
    pub(crate) async fn start(script: impl Fn(&Seen) -> Behavior + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let secrets: Secrets = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
            .parse()
            .expect("a secret");
        let script: Script = Arc::new(script);
        let journal = Journal::new();
        let receiver = Receiver::start(listener, secrets, script, journal.clone());
        Self { journal, receiver }
    }

    /// Answers every request with one status.
    pub(crate) async fn answering(status: u16) -> Self {
        Self::start(move |_| Behavior::answer(status)).await
    }

    /// Answers every request with one status, so many milliseconds after it came.
    pub(crate) async fn answering_after(status: u16, after_ms: u64) -> Self {
        let answer = Behavior::Answer {
            status,
            after_ms,
            retry_after: None,
        };
        Self::start(move |_| answer.clone()).await
    }

    pub(crate) fn url(&self, ordinal: u64) -> String {
        format!("http://{}/webhook/{ordinal}", self.receiver.address())
    }
}

/// A store over a fresh database whose schema is current, with a holder of no process.
pub(crate) struct Bench {
    pub(crate) store: PgStore,
    pub(crate) pool: PgPool,
    pub(crate) url: String,
}

pub(crate) const HOLDER: WorkerId = WorkerId(7);
pub(crate) const LEASE: Duration = Duration::from_secs(30);

impl Bench {
    pub(crate) async fn new() -> Self {
        let url = db::database().await;
        let mut options = StoreOptions::of(&app::config(&url, &[]));
        options.presence = false;
        let store = PgStore::open(&options);
        store
            .migrate()
            .await
            .expect("a fresh database takes the schema");
        Self {
            pool: db::pool(&url).await,
            store,
            url,
        }
    }

    /// Accepts so many events.
    pub(crate) async fn accept(&self, count: usize) -> Vec<EventId> {
        let mut ids = Vec::new();
        for _ in 0..count {
            let event = NewEvent {
                id: EventId::fresh(),
                payload: b"{}".to_vec(),
                target: Target::Given("http://127.0.0.1:9/".into()),
                idempotency_key: None,
            };
            ids.push(event.id);
            self.store.insert(event).await.expect("accepted");
        }
        ids
    }

    pub(crate) async fn claim(&self, limit: usize) -> Vec<Claim> {
        self.store
            .claim(HOLDER, LEASE, ClaimLimit::of(limit))
            .await
            .expect("a claim")
            .claims
    }

    /// The one event that is due.
    pub(crate) async fn claim_one(&self) -> Claim {
        let mut claims = self.claim(10).await;
        assert_eq!(claims.len(), 1, "one event is due");
        claims.remove(0)
    }

    /// Columns of an event's row, as text.
    pub(crate) async fn row(&self, id: EventId, columns: &str) -> Vec<Option<String>> {
        let list: Vec<_> = columns
            .split(", ")
            .map(|column| format!("({column})::text"))
            .collect();
        let sql = format!(
            "select {} from webhook_events where id = $1",
            list.join(", ")
        );
        let row = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(id.0)
            .fetch_one(&self.pool)
            .await
            .expect("a row");
        (0..list.len()).map(|i| row.get(i)).collect()
    }

    /// The outcomes of an event's attempts, by number.
    pub(crate) async fn attempts(&self, id: EventId) -> Vec<(i32, String)> {
        sqlx::query_as(
            "select number, outcome from delivery_attempts where event_id = $1 order by number",
        )
        .bind(id.0)
        .fetch_all(&self.pool)
        .await
        .expect("rows")
    }
}

/// How a claim ended.
pub(crate) fn settlement(claim: &Claim, outcome: Outcome, disposition: Disposition) -> Settlement {
    Settlement {
        key: claim.key,
        result: AttemptResult {
            outcome,
            error: None,
            snippet: None,
        },
        disposition,
        started_at: chrono::DateTime::UNIX_EPOCH,
        duration: Duration::from_millis(1),
    }
}
