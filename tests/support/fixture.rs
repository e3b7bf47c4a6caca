//! Receivers that follow a script, and a store without a worker, for tests that step it.

use std::sync::Arc;
use std::time::Duration;

use dispatcher::event::{
    AttemptResult, Claim, Disposition, EventId, NewEvent, Outcome, Settlement, Target, WorkerId,
};
use dispatcher::store::{ClaimLimit, NewRow, PgStore, Store};
use mock_receiver::{Behavior, Journal, Receiver, Script, Secrets, Seen};
use sqlx::PgPool;
use tokio::net::TcpListener;

use super::{app, db};

/// A receiver on a loopback address that verifies with the secret of [`app::settings`].
pub(crate) struct Endpoint {
    pub(crate) journal: Journal,
    receiver: Receiver,
}

impl Endpoint {
    /// Starts a receiver that responds with the behavior that the script returns.
    pub(crate) async fn start(script: impl Fn(&Seen) -> Behavior + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let secrets: Secrets =
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse().expect("the secret is valid");
        let script: Script = Arc::new(script);
        let journal = Journal::new();
        let receiver = Receiver::start(listener, secrets, script, journal.clone());
        Self { journal, receiver }
    }

    /// Responds to every request with the status.
    pub(crate) async fn responding_with(status: u16) -> Self {
        Self::start(move |_| Behavior::answer(status)).await
    }

    /// Responds to every request with the status, `after_ms` milliseconds after its arrival.
    pub(crate) async fn responding_after(status: u16, after_ms: u64) -> Self {
        let response = Behavior::Answer { status, after_ms, retry_after: None };
        Self::start(move |_| response.clone()).await
    }

    pub(crate) fn url(&self, ordinal: u64) -> String {
        format!("http://{}/webhook/{ordinal}", self.receiver.address())
    }
}

/// A store over a new, migrated database. No worker runs, so a test makes each transition.
pub(crate) struct Bench {
    pub(crate) store: PgStore,
    pub(crate) pool: PgPool,
    pub(crate) url: String,
}

pub(crate) const WORKER: WorkerId = WorkerId(7);
pub(crate) const LEASE: Duration = Duration::from_secs(30);

impl Bench {
    pub(crate) async fn new() -> Self {
        let url = db::database().await;
        let options = app::config(&url, &[]).store;
        let store = PgStore::open(&options);
        store.migrate().await.expect("the schema can be created in a new database");
        Self { pool: db::pool(&url).await, store, url }
    }

    /// Inserts `count` events and returns their ids.
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
            self.store
                .insert(&[NewRow { event: &event, token: None }], None)
                .await
                .expect("the insert succeeds");
        }
        ids
    }

    pub(crate) async fn claim(&self, limit: usize) -> Vec<Claim> {
        self.store
            .claim(WORKER, LEASE, ClaimLimit::of(limit))
            .await
            .expect("the claim succeeds")
            .claims
    }

    /// Claims the one event that is due. Fails if more or fewer are due.
    pub(crate) async fn claim_one(&self) -> Claim {
        let mut claims = self.claim(10).await;
        assert_eq!(claims.len(), 1, "number of due events");
        claims.remove(0)
    }

    /// Evaluates an SQL condition on an event's row.
    pub(crate) async fn holds(&self, id: EventId, condition: &str) -> bool {
        let sql = format!("select {condition} from webhook_events where id = $1");
        sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
            .bind(id.0)
            .fetch_one(&self.pool)
            .await
            .expect("the event has a row")
    }

    /// Number and outcome of the event's attempts, in order.
    pub(crate) async fn attempts(&self, id: EventId) -> Vec<(i32, String)> {
        sqlx::query_as(
            "select number, outcome from delivery_attempts where event_id = $1 order by number",
        )
        .bind(id.0)
        .fetch_all(&self.pool)
        .await
        .expect("the attempts can be read")
    }
}

/// A settlement of the claim after an attempt of 1 ms.
pub(crate) fn settlement(claim: &Claim, outcome: Outcome, disposition: Disposition) -> Settlement {
    Settlement {
        key: claim.key,
        result: AttemptResult { outcome, error: None, snippet: None },
        disposition,
        started_at: chrono::DateTime::UNIX_EPOCH,
        duration: Duration::from_millis(1),
    }
}
