//! An open transaction elsewhere that keeps dead entries in the index of due events.
//!
//! Endangers: claims, reclaims and the search for the next due time, if they walk the dead entries
//! that no VACUUM may remove. The harness inserts and deletes rows in one transaction, so that the
//! dispatcher never sees them. The effect is the number of transactions that the horizon is behind.

use rand::RngExt;
use serde::{Deserialize, Serialize};
use tokio::time::sleep_until;

use super::foreign_rows;
use super::outage::{connect, heal_server, over_in, refused};
use super::strike::{Draw, Observed, Start, Strike};
use super::world::World;
use crate::fault::{Aftermath, Family, Harm, Kills, Kind, Needs, Target};
use crate::plan::{Condition, PlannedFault};
use crate::system::{System, SystemError};

/// Fewest dead entries.
const ENTRIES_MIN: i32 = 20_000;
/// Most dead entries. They fit on the small disk of a run.
const ENTRIES_MAX: i32 = 60_000;
/// Shortest duration, in milliseconds. It exceeds the time that an event may wait meanwhile.
const FOR_MS_MIN: u64 = 4_000;
/// Longest duration, in milliseconds.
const FOR_MS_MAX: u64 = 6_000;
/// Takes a snapshot, which stays until the transaction ends.
const HOLD: &str = "begin isolation level repeatable read; select count(*) from webhook_events";
const AGE: &str = "select age(backend_xmin) from pg_stat_activity where pid = pg_backend_pid()";

/// A held horizon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldHorizon {
    /// Number of dead index entries.
    pub entries: i32,
    /// Time after the entries are dead, in milliseconds.
    pub for_ms: u64,
}

impl Strike for HoldHorizon {
    const KIND: Kind = Kind {
        name: "postgres.hold_horizon",
        family: Family::Postgres,
        about: "an open transaction that keeps dead entries in the index of due events",
        needs: Needs::OWN_POSTGRES,
        harm: Harm {
            kills: Kills::Nothing,
            stops_workers: false,
            expires_leases: false,
            loses_settles: false,
            loses_presence: false,
            loses_requests: false,
            withholds_responses: false,
            exhausts_machine: false,
            logs_errors: false,
            denies_database: false,
            abandons_max: 0,
            aftermath: Aftermath::Nothing,
        },
    };

    fn draw(draw: &Draw<'_>) -> Vec<PlannedFault<Self>> {
        draw.spread(|draws| {
            let hold = Self {
                entries: draws.random_range(ENTRIES_MIN..=ENTRIES_MAX),
                for_ms: draws.random_range(FOR_MS_MIN..=FOR_MS_MAX),
            };
            (Condition::Time, hold)
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
        let failed = |error| refused("keeping dead entries", &error);
        let mut holder = connect(world).await?;
        sqlx::raw_sql(HOLD).execute(&mut holder).await.map_err(failed)?;
        let mut writer = connect(world).await?;
        sqlx::raw_sql("begin").execute(&mut writer).await.map_err(failed)?;
        let none = foreign_rows::unchanged();
        let ids = foreign_rows::insert(&mut writer, self.entries, none).await?;
        let delete = sqlx::query("delete from webhook_events where id = any($1)").bind(&ids);
        delete.execute(&mut writer).await.map_err(failed)?;
        sqlx::raw_sql("commit").execute(&mut writer).await.map_err(failed)?;
        let effective_us = world.recorder.now_us();
        sleep_until(over_in(self.for_ms)).await;
        let age = sqlx::query_scalar::<_, i32>(AGE).fetch_one(&mut holder).await;
        let age = age.map_err(failed)?;
        let (entries, for_ms) = (ids.len(), self.for_ms);
        let seen = format!(
            "{entries} dead entries kept for {for_ms} ms; the horizon was {age} transactions behind"
        );
        Ok(Observed::seen(effective_us, (age > 0).then_some(seen)))
    }

    async fn heal<S: System>(&self, world: &mut World<'_, S>) -> Result<(), SystemError> {
        heal_server(world).await
    }
}
