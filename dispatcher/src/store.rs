//! Durable state: the operations that the worker and the API need, and their implementation on
//! Postgres.
//!
//! Every transition of `webhook_events` is one statement in one file below, and no transaction
//! spans more than one operation. The trait has two implementations: Postgres here, and the model
//! of the simulation.

mod claim;
mod clock;
mod connect;
mod database_url;
mod error;
mod find;
mod gauges;
mod insert;
mod inspect;
mod next_due;
mod operations;
mod own_leases;
mod parts;
mod payload;
mod places;
mod pool;
mod pooled;
mod presence;
mod readiness;
mod reclaim;
mod release;
mod schema;
mod session;
mod sessions;
mod settle;
mod time;
mod transactions;

use std::future::Future;
use std::time::Duration;

use chrono::{DateTime, Utc};

pub use self::claim::{CLAIM, CLAIM_BATCH_MAX, CLAIM_BYTES_MAX, ClaimLimit, Claimed, DueRange};
pub use self::connect::{PgStore, StoreOptions};
pub use self::database_url::{DatabaseUrl, DatabaseUrlError};
pub use self::error::StoreError;
pub use self::find::{AttemptView, EventView};
pub use self::gauges::Gauges;
pub use self::insert::{
    ALONE_BYTES_MIN, BODY_BYTES_MAX, Inserted, InsertedRows, LARGE_BYTES_MIN, NewRow, extra_time,
};
pub use self::inspect::{Inspection, SchemaState};
use self::next_due::next_due;
pub use self::operations::Operated;
pub use self::own_leases::OwnLeases;
use self::own_leases::own_leases;
use self::payload::piece;
pub use self::presence::{PgPresence, Presence};
use self::presence::{absent_workers, forget};
pub use self::readiness::Readiness;
pub use self::reclaim::{RECLAIM_BATCH_MAX, Reclaim, ReclaimCause, Reclaimed};
pub use self::release::RELEASE_BATCH_MAX;
pub use self::schema::SchemaError;
pub use self::settle::SETTLE_BATCH_MAX;
pub use self::time::StoredTime;
pub use self::transactions::OldestTransaction;
use crate::event::{ClaimKey, LeaseHolder, Release, Settled, Settlement, WorkerId};

/// The operations on events. Each may be called again after an error.
pub trait Store: Clone + Send + Sync + 'static {
    /// accept: stores events that are due now, all in one commit. Those with a token get a lease of
    /// `holder` (accept and claim), the others are pending. Those with an idempotency key are
    /// sorted by it. Returns `Ok` only after Postgres has acknowledged the commit.
    fn insert(
        &self,
        events: &[NewRow<'_>],
        holder: Option<LeaseHolder>,
    ) -> impl Future<Output = Result<InsertedRows, StoreError>> + Send;

    /// claim: leases due events without a lease to `worker`, up to `limit`.
    fn claim(
        &self,
        worker: WorkerId,
        lease: Duration,
        limit: ClaimLimit,
    ) -> impl Future<Output = Result<Claimed, StoreError>> + Send;

    /// Returns at most `length` bytes of a payload that a claim did not return, from the byte
    /// `from` on, or `None` if the lease has ended.
    fn payload_piece(
        &self,
        key: ClaimKey,
        from: usize,
        length: usize,
    ) -> impl Future<Output = Result<Option<Vec<u8>>, StoreError>> + Send;

    /// Returns the time until the next event that was not yet due at `after`, or `None` if there is
    /// none.
    fn next_due(
        &self,
        after: DateTime<Utc>,
    ) -> impl Future<Output = Result<Option<Duration>, StoreError>> + Send;

    /// settle: writes ended attempts, each fenced by its lease token. Returns one value per
    /// settlement, in order.
    fn settle(
        &self,
        settlements: Vec<Settlement>,
    ) -> impl Future<Output = Result<Vec<Settled>, StoreError>> + Send;

    /// release: returns claims without an attempt. Returns the number of leases that this worker
    /// still held.
    fn release(
        &self,
        releases: Vec<Release>,
    ) -> impl Future<Output = Result<usize, StoreError>> + Send;

    /// Reads the leases of `worker` on events that are due from `due_from` on.
    fn own_leases(
        &self,
        worker: WorkerId,
        due_from: Option<DateTime<Utc>>,
    ) -> impl Future<Output = Result<OwnLeases, StoreError>> + Send;

    /// Returns the workers that registered since the server started and whose lock is absent.
    /// Contains `caller` also if it is not registered.
    fn absent_workers(
        &self,
        caller: WorkerId,
    ) -> impl Future<Output = Result<Vec<WorkerId>, StoreError>> + Send;

    /// reclaim: ends leases that have expired or whose worker has no presence lock.
    fn reclaim(
        &self,
        reclaim: Reclaim,
    ) -> impl Future<Output = Result<Vec<Reclaimed>, StoreError>> + Send;

    /// Deletes the registration of an absent worker.
    fn forget(&self, worker: WorkerId) -> impl Future<Output = Result<(), StoreError>> + Send;
}

impl Store for PgStore {
    async fn insert(
        &self,
        events: &[NewRow<'_>],
        holder: Option<LeaseHolder>,
    ) -> Result<InsertedRows, StoreError> {
        let bytes = events.iter().map(|row| row.event.payload.len()).sum();
        let pool = self.accept.with_extra(extra_time(bytes));
        pool.run("storing events", async |db| insert::insert(db, events, holder).await).await
    }

    async fn claim(
        &self,
        worker: WorkerId,
        lease: Duration,
        limit: ClaimLimit,
    ) -> Result<Claimed, StoreError> {
        self.work
            .run("claiming due events", async |db| {
                claim::claim(db, worker, lease, limit, &self.refused).await
            })
            .await
    }

    async fn payload_piece(
        &self,
        key: ClaimKey,
        from: usize,
        length: usize,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        self.work.run("fetching a payload", async |db| piece(db, key, from, length).await).await
    }

    async fn next_due(&self, after: DateTime<Utc>) -> Result<Option<Duration>, StoreError> {
        self.work.run("reading the next due time", async |db| next_due(db, after).await).await
    }

    async fn settle(&self, settlements: Vec<Settlement>) -> Result<Vec<Settled>, StoreError> {
        self.work.run("settling attempts", async |db| settle::settle(db, &settlements).await).await
    }

    async fn release(&self, releases: Vec<Release>) -> Result<usize, StoreError> {
        self.work.run("releasing claims", async |db| release::release(db, &releases).await).await
    }

    async fn own_leases(
        &self,
        worker: WorkerId,
        due_from: Option<DateTime<Utc>>,
    ) -> Result<OwnLeases, StoreError> {
        self.work
            .run("searching orphaned claims", async |db| own_leases(db, worker, due_from).await)
            .await
    }

    async fn absent_workers(&self, caller: WorkerId) -> Result<Vec<WorkerId>, StoreError> {
        self.work.run("reading absent workers", async |db| absent_workers(db, caller).await).await
    }

    async fn reclaim(&self, reclaim: Reclaim) -> Result<Vec<Reclaimed>, StoreError> {
        self.work
            .run("reclaiming leases", async |db| {
                reclaim::reclaim(db, &reclaim, &self.refused).await
            })
            .await
    }

    async fn forget(&self, worker: WorkerId) -> Result<(), StoreError> {
        self.work.run("forgetting an absent worker", async |db| forget(db, worker).await).await
    }
}
