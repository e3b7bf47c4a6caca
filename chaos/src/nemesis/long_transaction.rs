//! An idle transaction that holds the rows of pending events, so that claims skip them.
//!
//! Endangers: liveness, a busy loop of claims that find nothing, and dead rows that an old snapshot
//! keeps. The effect is the number of held events that became due and were not claimed.

use std::time::Duration;

use rand::RngExt;
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use tokio::time::{sleep, sleep_until};
use uuid::Uuid;

use super::outage::{HARM, connect, heal_server, outage_ms, over_in, refused};
use super::strike::{Draw, Observed, Start, Strike};
use super::world::World;
use crate::fault::{Family, Kind, Needs, Target};
use crate::plan::{Condition, PlannedFault};
use crate::system::{System, SystemError};

/// Maximum number of events that one transaction holds.
const ROWS_MAX: i64 = 40;
/// Maximum number of queries for pending events. A fast dispatcher has few.
const LOOKS_MAX: u32 = 20;
/// Time between two queries.
const LOOK: Duration = Duration::from_millis(100);

/// An idle transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LongTransaction {
    /// Maximum number of events that it holds.
    pub rows: i64,
    /// Duration, in milliseconds.
    pub for_ms: u64,
}

impl Strike for LongTransaction {
    const KIND: Kind = Kind {
        name: "postgres.long_transaction",
        family: Family::Postgres,
        about: "an idle transaction that holds pending events, so that claims skip them",
        needs: Needs::OWN_POSTGRES,
        harm: HARM,
    };

    fn draw(draw: &Draw<'_>) -> Vec<PlannedFault<Self>> {
        draw.spread(|draws| {
            let long = Self {
                rows: draws.random_range(1..=ROWS_MAX),
                // Every retry becomes due within the first term.
                for_ms: draw.profile.settings.delay_ms_max(u32::MAX)
                    + outage_ms(draws, draw.profile),
            };
            (Condition::Time, long)
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
        let held = self.hold(&mut holder).await?;
        let effective_us = world.recorder.now_us();
        sleep_until(over_in(self.for_ms)).await;
        let due = "select count(*) from webhook_events
            where id = any($1) and next_retry_at <= clock_timestamp()";
        let due = sqlx::query_scalar::<_, i64>(due).bind(&held);
        let due = due.fetch_one(&mut holder).await;
        let due = due.map_err(|error| refused("counting due events", &error))?;
        let (held, for_ms) = (held.len(), self.for_ms);
        let seen = (due > 0)
            .then(|| format!("{held} events held for {for_ms} ms, {due} of them due and skipped"));
        Ok(Observed::seen(effective_us, seen))
    }

    async fn heal<S: System>(&self, world: &mut World<'_, S>) -> Result<(), SystemError> {
        heal_server(world).await
    }
}

impl LongTransaction {
    /// Locks pending events without a lease, the next due first, and returns their ids.
    async fn hold(&self, holder: &mut PgConnection) -> Result<Vec<Uuid>, SystemError> {
        let failed = |error| refused("holding events", &error);
        sqlx::raw_sql("begin").execute(&mut *holder).await.map_err(failed)?;
        let hold = "select id from webhook_events where status = 'pending' and lease_token is null
            order by next_retry_at limit $1 for update skip locked";
        for _ in 0..LOOKS_MAX {
            let held = sqlx::query_scalar(hold).bind(self.rows);
            let held: Vec<Uuid> = held.fetch_all(&mut *holder).await.map_err(failed)?;
            if !held.is_empty() {
                return Ok(held);
            }
            sleep(LOOK).await;
        }
        Err(SystemError::Unavailable {
            driver: "postgres",
            why: "no event was pending, so that none could be held".to_owned(),
        })
    }
}
