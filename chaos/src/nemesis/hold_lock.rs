//! A lock on the table of events, or on the rows of leased events.
//!
//! Endangers: statements that wait without a bound, settles past the lease, the 503 in time. The
//! effect is the number of statements that waited for the lock.

use std::time::Duration;

use rand::RngExt;
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use tokio::time::{Instant, sleep};

use super::outage::{HARM, connect, heal_server, outage_ms, over_in, refused};
use super::strike::{Draw, Observed, Start, Strike};
use super::world::World;
use crate::fault::{Family, Kind, Needs, Target};
use crate::plan::{Condition, PlannedFault};
use crate::system::{System, SystemError};

/// Of two locks, this number is on the whole table.
const TABLE_OF_2: u32 = 1;
/// Time between two queries for leased events, or for waiting statements.
const LOOK: Duration = Duration::from_millis(50);
/// Maximum number of queries for leased events.
const LOOKS_MAX: u32 = 60;

/// A lock that the harness holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldLock {
    /// True for a lock on the table, false for locks on the rows that are leased at that time.
    pub table: bool,
    /// Duration, in milliseconds.
    pub for_ms: u64,
}

impl Strike for HoldLock {
    const KIND: Kind = Kind {
        name: "postgres.lock",
        family: Family::Postgres,
        about: "a lock held on the table of events, or on the rows that are being sent",
        needs: Needs::OWN_POSTGRES,
        harm: HARM,
    };

    fn draw(draw: &Draw<'_>) -> Vec<PlannedFault<Self>> {
        draw.spread(|draws| {
            let lock = Self {
                table: draws.random_range(0..2) < TABLE_OF_2,
                // The open attempts end, and need their settles, within this time.
                for_ms: draw.profile.settings.http_timeout_ms + outage_ms(draws, draw.profile),
            };
            (Condition::OpenRequests(draw.profile.workers), lock)
        })
    }

    fn target(&self) -> Target {
        Target::Postgres
    }

    async fn strike<S: System>(
        &self,
        world: &mut World<'_, S>,
        _: &Start,
    ) -> Result<Observed, SystemError> {
        let mut holder = connect(world).await?;
        let mut watch = connect(world).await?;
        self.lock(&mut holder).await?;
        let effective_us = world.recorder.now_us();
        let until = over_in(self.for_ms);
        let mut most = 0;
        while Instant::now() < until {
            most = most.max(waiting(&mut watch).await?);
            sleep(LOOK).await;
        }
        sqlx::raw_sql("rollback")
            .execute(&mut holder)
            .await
            .map_err(|error| refused("releasing the lock", &error))?;
        let (on, for_ms) = (if self.table { "the table" } else { "rows" }, self.for_ms);
        let seen = (most > 0)
            .then(|| format!("{on} locked for {for_ms} ms; up to {most} statements waited"));
        Ok(Observed::seen(effective_us, seen))
    }

    async fn heal<S: System>(&self, world: &mut World<'_, S>) -> Result<(), SystemError> {
        heal_server(world).await
    }
}

impl HoldLock {
    async fn lock(&self, holder: &mut PgConnection) -> Result<(), SystemError> {
        let failed = |error| refused("locking events", &error);
        sqlx::raw_sql("begin").execute(&mut *holder).await.map_err(failed)?;
        let lock = if self.table {
            "lock table webhook_events in access exclusive mode"
        } else {
            "select id from webhook_events where lease_token is not null order by id for update"
        };
        for _ in 0..LOOKS_MAX {
            let locked = sqlx::raw_sql(lock).fetch_all(&mut *holder).await;
            if !locked.map_err(failed)?.is_empty() || self.table {
                return Ok(());
            }
            sleep(LOOK).await;
        }
        Err(SystemError::Unavailable {
            driver: "postgres",
            why: "no event was leased, so that no row could be locked".to_owned(),
        })
    }
}

/// The number of statements that wait for a lock now.
async fn waiting(watch: &mut PgConnection) -> Result<i64, SystemError> {
    let count = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'";
    let count = sqlx::query_scalar(count).fetch_one(watch).await;
    count.map_err(|error| refused("counting statements that wait", &error))
}
