//! A lock that somebody holds: on the whole table of events, or on the rows of events that are being sent.
//!
//! Endangers: statements that wait without a bound, settles past the lease, the 503 in time. The effect is
//! the number of statements that were seen to wait for it.

use std::time::Duration;

use rand::RngExt;
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use tokio::time::{Instant, sleep};

use super::draw::spread;
use super::outage::{self, heal, outage_ms, over_in, refused};
use super::{Applied, Fault, PlannedFault, Sight, World};
use crate::fault::{Family, Kind, Needs, Target};
use crate::profile::Profile;
use crate::seed::Seed;
use crate::system::{System, SystemError};

pub(super) const KIND: Kind = Kind {
    name: "postgres.lock",
    family: Family::Postgres,
    about: "a lock held on the table of events, or on the rows that are being sent",
    needs: Needs::OWN_POSTGRES,
    harm: outage::HARM,
};

/// Of two locks, this many are on the whole table.
const TABLE_OF_2: u32 = 1;
/// Time between two looks at who waits, in milliseconds.
const LOOK: Duration = Duration::from_millis(50);

/// How often events that are being sent are looked for.
const LOOKS_MAX: u32 = 60;

/// A lock that is held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldLock {
    /// True for the whole table, false for the rows that are leased just then.
    pub table: bool,
    /// How long, in milliseconds.
    pub for_ms: u64,
}

pub(super) fn draw(seed: Seed, profile: &Profile) -> Vec<PlannedFault> {
    spread(seed, profile, &KIND, |draws| {
        let lock = HoldLock {
            table: draws.random_range(0..2) < TABLE_OF_2,
            // What is being sent is to be settled within this.
            for_ms: profile.settings.http_timeout_ms + outage_ms(draws, profile),
        };
        (Sight::OpenRequests(profile.workers), Fault::HoldLock(lock))
    })
}

impl HoldLock {
    pub(super) async fn apply<S: System>(&self, world: &mut World<'_, S>, fault: u64) -> Applied {
        let own = world.own_server()?;
        let (holder, watch) = (own.session().await, own.session().await);
        let mut holder = holder.map_err(|error| refused("connecting", &error))?;
        let mut watch = watch.map_err(|error| refused("connecting", &error))?;
        self.take(&mut holder).await?;
        let begun = world.begin(fault, &KIND, Target::Postgres);
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
            .map_err(|error| refused("letting the lock go", &error))?;
        heal(world).await?;
        let (on, for_ms) = (if self.table { "the table" } else { "rows" }, self.for_ms);
        let observed = (most > 0)
            .then(|| format!("{on} locked for {for_ms} ms; up to {most} statements waited"));
        world.effect(&begun, effective_us, Vec::new(), observed);
        world.end(&begun);
        Ok(())
    }

    async fn take(&self, holder: &mut PgConnection) -> Result<(), SystemError> {
        let failed = |error| refused("locking events", &error);
        sqlx::raw_sql("begin")
            .execute(&mut *holder)
            .await
            .map_err(failed)?;
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
            why: "no event was being sent that could be locked".to_owned(),
        })
    }
}

/// How many statements of others wait for a lock just now.
async fn waiting(watch: &mut PgConnection) -> Result<i64, SystemError> {
    let count = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'";
    let count = sqlx::query_scalar(count).fetch_one(watch).await;
    count.map_err(|error| refused("reading who waits", &error))
}
