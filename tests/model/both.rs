//! The pair of stores: opens, resets and compares them, and lists the effects that must occur.

use std::collections::BTreeSet;
use std::fmt::Debug;

use chaos::sim::model::Model;
use dispatcher::event::{Claim, Settlement, WorkerId};
use dispatcher::store::PgStore;
use sqlx::pool::PoolConnection;
use sqlx::{PgPool, Postgres};

use super::rows;
use crate::support::app;
use crate::support::fixture::Bench;

/// Start of virtual time, in microseconds of Unix time.
const START_US: i64 = 1_800_000_000_000_000;
/// Defines the `now()` of the test. The search path puts it before the one of `pg_catalog`.
const VIRTUAL_TIME: &[&str] = &[
    "create schema virtual",
    "create table virtual.time (us bigint not null)",
    "insert into virtual.time values (0)",
    "create function virtual.now() returns timestamptz language sql stable as
     $$ select timestamptz 'epoch' + us * interval '1 microsecond' from virtual.time $$",
];

/// Both stores, and the claims and sessions of the workers.
pub(super) struct Both {
    pub(super) model: Model,
    pub(super) store: PgStore,
    pub(super) pool: PgPool,
    pub(super) sessions: PoolConnection<Postgres>,
    pub(super) now_us: i64,
    pub(super) events: u64,
    /// Every claim since the reset. Stale claims are settled and released too.
    pub(super) claims: Vec<Claim>,
    pub(super) settled: Vec<Settlement>,
    pub(super) joined: BTreeSet<WorkerId>,
}

/// The effects that occurred in any sequence.
#[derive(Default)]
pub(super) struct Coverage(BTreeSet<&'static str>);

/// The effects that must occur.
const EFFECTS: &[&str] = &[
    "insert",
    "insert with a lease",
    "insert again",
    "insert conflict",
    "claim",
    "claim a part",
    "claim from a time on",
    "own leases",
    "settle",
    "settle unrecorded",
    "settle already",
    "settle lost",
    "release",
    "release lost",
    "reclaim expired",
    "reclaim gone",
    "reclaim to death",
    "reclaim unrecorded",
    "rewind",
    "join",
    "vanish",
    "forget",
    "absent",
    "next due",
];

impl Coverage {
    pub(super) fn add(&mut self, effects: Vec<&'static str>) {
        self.0.extend(effects);
    }

    pub(super) fn missing(&self) -> Vec<&'static str> {
        let missing = EFFECTS.iter().filter(|effect| !self.0.contains(*effect));
        missing.copied().collect()
    }
}

/// Returns an error that shows both values if they differ.
pub(super) fn same<T: PartialEq + Debug>(
    name: &str,
    model: &T,
    postgres: &T,
) -> Result<(), String> {
    if model == postgres {
        return Ok(());
    }
    Err(format!("{name}: the model has {model:?}, Postgres has {postgres:?}"))
}

impl Both {
    /// Opens both stores on a new database with virtual time.
    pub(super) async fn open() -> Both {
        let bench = Bench::new().await;
        for statement in VIRTUAL_TIME {
            sqlx::query(*statement).execute(&bench.pool).await.unwrap();
        }
        let path = "options=-csearch_path%3Dvirtual,public,pg_catalog";
        let join = if bench.url.contains('?') { '&' } else { '?' };
        let url = format!("{}{join}{path}", bench.url);
        let options = app::config(&url, &[]).store;
        Both {
            model: Model::default(),
            store: PgStore::open(&options),
            sessions: bench.pool.acquire().await.unwrap(),
            pool: bench.pool,
            now_us: START_US,
            events: 0,
            claims: Vec::new(),
            settled: Vec::new(),
            joined: BTreeSet::new(),
        }
    }

    /// Deletes all rows, locks and claims, and sets the time to the start.
    pub(super) async fn reset(&mut self) {
        let truncate = "truncate webhook_events, delivery_attempts, workers";
        sqlx::query(truncate).execute(&self.pool).await.unwrap();
        let unlock = "select pg_advisory_unlock_all()";
        sqlx::query(unlock).execute(&mut *self.sessions).await.unwrap();
        self.model = Model::default();
        self.claims.clear();
        self.settled.clear();
        self.joined.clear();
        self.set_time(START_US).await;
    }

    pub(super) async fn set_time(&mut self, us: i64) {
        self.now_us = us;
        let set = "update virtual.time set us = $1";
        sqlx::query(set).bind(us).execute(&self.pool).await.unwrap();
    }

    /// Compares every row and every view of an event.
    pub(super) async fn compare(&mut self) -> Result<(), String> {
        let postgres = rows::read(&self.pool).await;
        same("rows", &self.model.rows, &postgres)?;
        for id in postgres.keys() {
            let view = self.store.find(*id).await.map_err(|e| e.to_string())?;
            same("view", &self.model.find(*id), &view)?;
        }
        Ok(())
    }
}
