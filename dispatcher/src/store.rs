//! The one source of truth: what the dispatcher asks of its store, and the store that asks Postgres.
//!
//! Every transition of `webhook_events` is one statement in one file below; no transaction is open over anything else. The
//! trait has two implementors: Postgres here, and the model of the simulation.

mod claim;
mod connect;
mod error;
mod find;
mod gauges;
mod insert;
mod keyed;
mod lend;
mod next_due;
mod presence;
mod reclaim;
mod release;
mod schema;
mod settle;

use std::future::Future;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::timeout_at;

pub use self::claim::CLAIM;
pub use self::connect::{DatabaseUrl, PgStore, StoreOptions};
pub use self::error::StoreError;
pub use self::find::{AttemptView, EventView};
pub use self::gauges::Gauges;
pub use self::insert::Inserted;
pub use self::reclaim::{Reclaim, ReclaimCause, Reclaimed};
pub use self::schema::SchemaError;
use self::settle::SettleColumns;
use crate::event::{Claim, EventId, NewEvent, Release, Settled, Settlement, WorkerId};

/// Most events that one claim takes.
pub const CLAIM_BATCH_MAX: usize = 500;

/// A claim takes no further event once it has so many bytes of payload.
pub const CLAIM_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Most attempts that one settle writes.
pub const SETTLE_BATCH_MAX: usize = 256;

/// Most leases that one reclaim ends.
pub const RECLAIM_BATCH_MAX: usize = 1_000;

/// How much a claim may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClaimLimit {
    /// So many events at most.
    pub events: usize,
    /// After the event whose payload reaches so many bytes in all, no other is taken.
    pub bytes: usize,
    /// What became due earlier is not looked for.
    pub due_from: Option<DateTime<Utc>>,
}

impl ClaimLimit {
    /// So many events of any usual size.
    pub const fn of(events: usize) -> Self {
        Self {
            events,
            bytes: CLAIM_BYTES_MAX,
            due_from: None,
        }
    }
}

/// What a claim took, and when, on the database's clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// The `now()` of the claim.
    pub now: DateTime<Utc>,
    /// When the first of the events became due.
    pub first_due: Option<DateTime<Utc>>,
    /// The events, now under this holder's lease.
    pub claims: Vec<Claim>,
}

/// What the API and the worker ask of the store. Every method may be called again after an error.
pub trait Store: Clone + Send + Sync + 'static {
    /// accept: makes an event pending and due now; `Ok` only after the commit is acknowledged.
    fn insert(&self, event: NewEvent) -> impl Future<Output = Result<Inserted, StoreError>> + Send;

    /// Reads an event with its attempts.
    fn find(
        &self,
        id: EventId,
    ) -> impl Future<Output = Result<Option<EventView>, StoreError>> + Send;

    /// Waits until other workers can see that this holder lives; nothing may be claimed before.
    fn present(&self) -> impl Future<Output = ()> + Send;

    /// claim: leases due events that hold no lease, up to a limit.
    fn claim(
        &self,
        holder: WorkerId,
        lease: Duration,
        limit: ClaimLimit,
    ) -> impl Future<Output = Result<Claimed, StoreError>> + Send;

    /// How long until an event that was not yet due at `after` is due; `None` if there is none.
    fn next_due(
        &self,
        after: DateTime<Utc>,
    ) -> impl Future<Output = Result<Option<Duration>, StoreError>> + Send;

    /// settle: writes ends of attempts, each fenced by its token; one answer each, in order.
    fn settle(
        &self,
        settlements: Vec<Settlement>,
    ) -> impl Future<Output = Result<Vec<Settled>, StoreError>> + Send;

    /// release: hands claims back unsent; the answer is how many leases were still theirs.
    fn release(
        &self,
        releases: Vec<Release>,
    ) -> impl Future<Output = Result<usize, StoreError>> + Send;

    /// Has this holder's presence given up and taken anew, where it is believed to be held.
    fn renew_presence(&self);

    /// The holders that registered at this start of the server and whose lock is absent just now; `own` is among them also
    /// when it is not registered.
    fn absent_workers(
        &self,
        own: WorkerId,
    ) -> impl Future<Output = Result<Vec<WorkerId>, StoreError>> + Send;

    /// reclaim: ends leases whose holder is gone or late.
    fn reclaim(
        &self,
        reclaim: Reclaim,
    ) -> impl Future<Output = Result<Vec<Reclaimed>, StoreError>> + Send;

    /// Forgets a holder that stays gone.
    fn forget(&self, holder: WorkerId) -> impl Future<Output = Result<(), StoreError>> + Send;
}

impl Store for PgStore {
    async fn insert(&self, event: NewEvent) -> Result<Inserted, StoreError> {
        let key = event.idempotency_key.as_deref();
        let turn = async {
            match key {
                Some(key) => Some(self.keyed.turn(key).await),
                None => None,
            }
        };
        let (_turn, mut lent) = self.accept.lend_after("storing an event", turn).await?;
        let done = timeout_at(lent.deadline, insert::insert(lent.connection(), &event)).await;
        lent.conclude(done)
    }

    async fn find(&self, id: EventId) -> Result<Option<EventView>, StoreError> {
        let mut lent = self.accept.lend("reading an event").await?;
        let done = timeout_at(lent.deadline, find::find(lent.connection(), id)).await;
        lent.conclude(done)
    }

    async fn present(&self) {
        self.presence_becomes(true).await;
    }

    async fn claim(
        &self,
        holder: WorkerId,
        lease: Duration,
        limit: ClaimLimit,
    ) -> Result<Claimed, StoreError> {
        let mut lent = self.work.lend("claiming due events").await?;
        let deadline = lent.deadline;
        let claim = claim::claim(lent.connection(), holder, lease, limit);
        let done = timeout_at(deadline, claim).await;
        lent.conclude(done)
    }

    async fn next_due(&self, after: DateTime<Utc>) -> Result<Option<Duration>, StoreError> {
        let mut lent = self.work.lend("looking for the next due event").await?;
        let done = timeout_at(lent.deadline, next_due::next_due(lent.connection(), after)).await;
        lent.conclude(done)
    }

    async fn settle(&self, settlements: Vec<Settlement>) -> Result<Vec<Settled>, StoreError> {
        let columns = SettleColumns::of(&settlements);
        let mut lent = self.work.lend("settling attempts").await?;
        let done = timeout_at(lent.deadline, settle::settle(lent.connection(), columns)).await;
        lent.conclude(done)
    }

    async fn release(&self, releases: Vec<Release>) -> Result<usize, StoreError> {
        let mut lent = self.work.lend("releasing claims").await?;
        let done = timeout_at(lent.deadline, release::release(lent.connection(), releases)).await;
        lent.conclude(done)
    }

    fn renew_presence(&self) {
        self.drop_presence();
    }

    async fn absent_workers(&self, own: WorkerId) -> Result<Vec<WorkerId>, StoreError> {
        let mut lent = self.work.lend("looking for gone workers").await?;
        let deadline = lent.deadline;
        let look = presence::absent_workers(lent.connection(), own);
        let done = timeout_at(deadline, look).await;
        lent.conclude(done)
    }

    async fn reclaim(&self, reclaim: Reclaim) -> Result<Vec<Reclaimed>, StoreError> {
        let mut lent = self.work.lend("reclaiming leases").await?;
        let done = timeout_at(lent.deadline, reclaim::reclaim(lent.connection(), reclaim)).await;
        lent.conclude(done)
    }

    async fn forget(&self, holder: WorkerId) -> Result<(), StoreError> {
        let mut lent = self.work.lend("forgetting a gone worker").await?;
        let done = timeout_at(lent.deadline, presence::forget(lent.connection(), holder)).await;
        lent.conclude(done)
    }
}
