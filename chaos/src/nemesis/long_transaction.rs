//! A transaction that somebody left open, idle, with the rows of pending events in its hands: whoever
//! claims skips them.
//!
//! Endangers: liveness, a hot loop of claims that find nothing, and what old snapshots keep alive. The
//! effect is the number of its events that became due and stood still.

use std::time::Duration;

use rand::RngExt;
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use tokio::time::{sleep, sleep_until};
use uuid::Uuid;

use super::draw::spread;
use super::outage::{self, heal, outage_ms, over_in, refused};
use super::{Applied, Fault, PlannedFault, Sight, World};
use crate::fault::{Family, Kind, Needs, Target};
use crate::profile::Profile;
use crate::seed::Seed;
use crate::system::{System, SystemError};

pub(super) const KIND: Kind = Kind {
    name: "postgres.long_transaction",
    family: Family::Postgres,
    about: "an idle transaction that holds pending events, so that claims skip them",
    needs: Needs::OWN_POSTGRES,
    harm: outage::HARM,
};

/// Events that one transaction holds at most.
const ROWS_MAX: i64 = 40;
/// How often pending events are looked for; a quick system has few.
const LOOKS_MAX: u32 = 20;
/// Time between two looks, in milliseconds.
const LOOK: Duration = Duration::from_millis(100);

/// An idle transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LongTransaction {
    /// Events that it holds at most.
    pub rows: i64,
    /// How long, in milliseconds.
    pub for_ms: u64,
}

pub(super) fn draw(seed: Seed, profile: &Profile) -> Vec<PlannedFault> {
    spread(seed, profile, &KIND, |draws| {
        let long = LongTransaction {
            rows: draws.random_range(1..=ROWS_MAX),
            // What waits for its retry becomes due within this.
            for_ms: profile.settings.delay_ms_max(u32::MAX) + outage_ms(draws, profile),
        };
        (Sight::Time, Fault::LongTransaction(long))
    })
}

impl LongTransaction {
    pub(super) async fn apply<S: System>(&self, world: &mut World<'_, S>, fault: u64) -> Applied {
        let holder = world.own_server()?.session().await;
        let mut holder = holder.map_err(|error| refused("connecting", &error))?;
        let held = self.take(&mut holder).await?;
        let begun = world.begin(fault, &KIND, Target::Postgres);
        let effective_us = world.recorder.now_us();
        sleep_until(over_in(self.for_ms)).await;
        let due = "select count(*) from webhook_events
            where id = any($1) and next_retry_at <= clock_timestamp()";
        let due = sqlx::query_scalar::<_, i64>(due).bind(&held);
        let due = due.fetch_one(&mut holder).await;
        let due = due.map_err(|error| refused("counting what is due", &error))?;
        drop(holder);
        heal(world).await?;
        let (held, for_ms) = (held.len(), self.for_ms);
        let observed = (due > 0)
            .then(|| format!("{held} events held for {for_ms} ms, {due} of them due and skipped"));
        world.effect(&begun, effective_us, Vec::new(), observed);
        world.end(&begun);
        Ok(())
    }

    /// Pending events that nobody holds, the next ones first: they become due in the transaction's hands.
    async fn take(&self, holder: &mut PgConnection) -> Result<Vec<Uuid>, SystemError> {
        let failed = |error| refused("holding events", &error);
        sqlx::raw_sql("begin")
            .execute(&mut *holder)
            .await
            .map_err(failed)?;
        let take = "select id from webhook_events where status = 'pending' and lease_token is null
            order by next_retry_at limit $1 for update skip locked";
        for _ in 0..LOOKS_MAX {
            let held = sqlx::query_scalar(take).bind(self.rows);
            let held: Vec<Uuid> = held.fetch_all(&mut *holder).await.map_err(failed)?;
            if !held.is_empty() {
                return Ok(held);
            }
            sleep(LOOK).await;
        }
        Err(SystemError::Unavailable {
            driver: "postgres",
            why: "no event was pending that could be held".to_owned(),
        })
    }
}
