//! A full disk under the database server. A server that cannot write its log exits.
//!
//! Endangers: acknowledged events, the 503 without a stored event, results that workers hold,
//! liveness. The effect is a write of the harness that was refused.

use std::time::Duration;

use rand::RngExt;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::outage::{HARM, heal_server, outage_ms, over_in};
use super::strike::{Draw, Observed, Start, Strike};
use super::world::World;
use crate::fault::{Family, Kind, Needs, Target};
use crate::plan::{Condition, PlannedFault};
use crate::postgres::OwnServer;
use crate::system::{System, SystemError};

/// Maximum space that is left free, in bytes.
const SPARE_BYTES_MAX: u64 = 256 * 1024;
/// How long one write of the harness may take.
const WRITE: Duration = Duration::from_secs(2);
/// Time between two writes of the harness.
const WRITE_AGAIN: Duration = Duration::from_millis(20);

/// A full disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FillDisk {
    /// Space that is left free, in bytes.
    pub spare_bytes: u64,
    /// Duration, in milliseconds.
    pub for_ms: u64,
}

impl Strike for FillDisk {
    const KIND: Kind = Kind {
        name: "postgres.disk_full",
        family: Family::Postgres,
        about: "the disk of the server is full, then has room again (needs root)",
        needs: Needs { small_disk: true, ..Needs::OWN_POSTGRES },
        harm: HARM,
    };

    fn draw(draw: &Draw<'_>) -> Vec<PlannedFault<Self>> {
        draw.spread(|draws| {
            let full = Self {
                spare_bytes: draws.random_range(0..=SPARE_BYTES_MAX),
                for_ms: outage_ms(draws, draw.profile),
            };
            (Condition::OpenRequests(draw.profile.workers), full)
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
        let filled = world.own_server()?.fill_disk(self.spare_bytes)?;
        let until = over_in(self.for_ms);
        let refusal = write_until_refused(world.own_server()?, until).await;
        let effective_us = world.recorder.now_us();
        sleep_until(until).await;
        let filled = filled >> 20;
        let seen = refusal.map(|why| format!("{filled} MiB filled up; a write was refused: {why}"));
        Ok(Observed::seen(effective_us, seen))
    }

    async fn heal<S: System>(&self, world: &mut World<'_, S>) -> Result<(), SystemError> {
        heal_server(world).await
    }
}

/// Writes until a write is refused, and returns the error. Returns nothing at `until`.
async fn write_until_refused(own: &OwnServer, until: Instant) -> Option<String> {
    let write = "create table if not exists public.chaos_filler (filler text);
        alter table public.chaos_filler alter column filler set storage external;
        insert into public.chaos_filler select repeat('x', 100000);";
    while Instant::now() < until {
        let written = async {
            let mut session = own.session().await?;
            sqlx::raw_sql(write).execute(&mut session).await
        };
        if let Ok(Err(error)) = timeout(WRITE, written).await {
            return Some(error.to_string());
        }
        sleep(WRITE_AGAIN).await;
    }
    None
}
