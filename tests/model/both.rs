//! Both stores: how they are opened, emptied and compared, and what must have happened to them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use chaos::sim::model::Model;
use dispatcher::event::{Claim, Settlement, WorkerId};
use dispatcher::store::{PgStore, StoreOptions};
use sqlx::pool::PoolConnection;
use sqlx::{PgPool, Postgres};

use super::rows;
use crate::support::app;
use crate::support::fixture::Bench;

/// Where virtual time begins, in microseconds of Unix time.
const BEGIN_US: i64 = 1_800_000_000_000_000;
/// `now()` as the test sets it; the store's statements find it before the real one.
const VIRTUAL_TIME: &[&str] = &[
    "create schema virtual",
    "create table virtual.time (us bigint not null)",
    "insert into virtual.time values (0)",
    "create function virtual.now() returns timestamptz language sql stable as
     $$ select timestamptz 'epoch' + us * interval '1 microsecond' from virtual.time $$",
];

/// Both stores, and what the workers hold of them.
pub(super) struct Both {
    pub(super) model: Model,
    pub(super) store: PgStore,
    pub(super) pool: PgPool,
    pub(super) sessions: PoolConnection<Postgres>,
    pub(super) now_us: i64,
    pub(super) events: u64,
    /// Every claim that was ever made: stale ones are settled and released, too.
    pub(super) claims: Vec<Claim>,
    pub(super) settled: Vec<Settlement>,
    pub(super) joined: BTreeSet<WorkerId>,
}

/// Which kinds of operation had an effect at least once.
#[derive(Default)]
pub(super) struct Done(BTreeMap<&'static str, u32>);

/// Every kind of effect that must have been seen.
const KINDS: &[&str] = &[
    "insert",
    "insert again",
    "insert conflict",
    "claim",
    "claim a part",
    "claim from a time on",
    "settle",
    "settle already",
    "settle lost",
    "release",
    "release lost",
    "reclaim expired",
    "reclaim gone",
    "reclaim to death",
    "join",
    "vanish",
    "forget",
    "absent",
    "next due",
];

impl Done {
    pub(super) fn note(&mut self, kinds: Vec<&'static str>) {
        for kind in kinds {
            *self.0.entry(kind).or_default() += 1;
        }
    }

    pub(super) fn missing(&self) -> Vec<&'static str> {
        let missing = KINDS.iter().filter(|kind| !self.0.contains_key(*kind));
        missing.copied().collect()
    }
}

/// The difference in words, if there is one.
pub(super) fn same<T: PartialEq + Debug>(
    what: &str,
    model: &T,
    postgres: &T,
) -> Result<(), String> {
    if model == postgres {
        return Ok(());
    }
    Err(format!(
        "{what}: the model says {model:?}, Postgres {postgres:?}"
    ))
}

impl Both {
    /// Over a fresh database whose `now()` is ours.
    pub(super) async fn open() -> Both {
        let bench = Bench::new().await;
        for statement in VIRTUAL_TIME {
            sqlx::query(*statement).execute(&bench.pool).await.unwrap();
        }
        let path = "options=-csearch_path%3Dvirtual,public,pg_catalog";
        let join = if bench.url.contains('?') { '&' } else { '?' };
        let url = format!("{}{join}{path}", bench.url);
        let options = StoreOptions::of(&app::config(&url, &[]));
        Both {
            model: Model::default(),
            store: PgStore::open(&options),
            sessions: bench.pool.acquire().await.unwrap(),
            pool: bench.pool,
            now_us: BEGIN_US,
            events: 0,
            claims: Vec::new(),
            settled: Vec::new(),
            joined: BTreeSet::new(),
        }
    }

    /// Empties both.
    pub(super) async fn begin_again(&mut self) {
        let empty = "truncate webhook_events, delivery_attempts, workers";
        sqlx::query(empty).execute(&self.pool).await.unwrap();
        let unlock = "select pg_advisory_unlock_all()";
        sqlx::query(unlock)
            .execute(&mut *self.sessions)
            .await
            .unwrap();
        self.model = Model::default();
        self.claims.clear();
        self.settled.clear();
        self.joined.clear();
        self.set_time(BEGIN_US).await;
    }

    pub(super) async fn set_time(&mut self, us: i64) {
        self.now_us = us;
        let set = "update virtual.time set us = $1";
        sqlx::query(set).bind(us).execute(&self.pool).await.unwrap();
    }

    /// Every row and every view of both.
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
