//! A server that comes back as a standby, and is promoted with its sessions open.
//!
//! Endangers: sessions that reached the server while it was read-only, presence (promotion empties
//! the unlogged table), claims that find a healthy connection and cannot write. The effect is the
//! refusal of a write of the harness.

use rand::RngExt;
use serde::{Deserialize, Serialize};
use tokio::time::sleep_until;

use super::observed::BEYOND_LEASE_MS_MAX;
use super::outage::{HARM, connect, heal_server, over_in};
use super::strike::{Draw, Observed, Start, Strike};
use super::world::World;
use crate::fault::{Family, Harm, Kind, Needs, Target};
use crate::plan::{Condition, PlannedFault};
use crate::system::{System, SystemError};

/// Shortest time as a standby, in milliseconds. Workers connect again within this time.
const FOR_MS_MIN: u64 = 1_000;
/// A write that changes nothing on a primary.
const WRITE: &str = "delete from webhook_events where false";

/// A read-only server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadOnly {
    /// Time as a standby, in milliseconds.
    pub for_ms: u64,
}

impl Strike for ReadOnly {
    const KIND: Kind = Kind {
        name: "postgres.read_only",
        family: Family::Postgres,
        about: "a restart as a read-only standby, then a promotion with the sessions open",
        needs: Needs::OWN_POSTGRES,
        harm: Harm { denies_database: true, ..HARM },
    };

    fn draw(draw: &Draw<'_>) -> Vec<PlannedFault<Self>> {
        draw.spread(|draws| {
            let read_only = Self { for_ms: draws.random_range(FOR_MS_MIN..=BEYOND_LEASE_MS_MAX) };
            (Condition::OpenRequests(draw.profile.workers), read_only)
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
        world.own_server()?.become_standby().await?;
        let effective_us = world.recorder.now_us();
        let until = over_in(self.for_ms);
        let mut watch = connect(world).await?;
        let refusal = sqlx::raw_sql(WRITE).execute(&mut watch).await.err();
        sleep_until(until).await;
        let seen = refusal.map(|why| {
            let for_ms = self.for_ms;
            format!("a standby for {for_ms} ms; a write was refused: {why}")
        });
        Ok(Observed::seen(effective_us, seen))
    }

    async fn heal<S: System>(&self, world: &mut World<'_, S>) -> Result<(), SystemError> {
        heal_server(world).await
    }
}
