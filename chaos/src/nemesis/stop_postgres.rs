//! The end of the database server, by an immediate stop or by SIGKILL of the postmaster, and its
//! recovery.
//!
//! Endangers: acknowledged events, presence (recovery empties the table of workers), statements
//! with unknown outcome, duplicates, and results that workers hold past the lease. The effect is
//! that a client cannot connect.

use serde::{Deserialize, Serialize};

use super::outage::{HARM, heal_server, outage_ms, over_in, sit_out};
use super::strike::{Draw, Observed, Start, Strike};
use super::world::World;
use crate::fault::{Family, Harm, Kind, Needs, Target};
use crate::plan::{Condition, PlannedFault};
use crate::system::{System, SystemError};

/// The immediate stop of the server (`pg_ctl -m immediate`), which writes no checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopPostgres {
    /// Time until the server is started again, in milliseconds.
    pub down_ms: u64,
}

/// SIGKILL of the postmaster. Its backends exit when they notice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KillPostgres {
    /// Time until the server is started again, in milliseconds.
    pub down_ms: u64,
}

impl Strike for StopPostgres {
    const KIND: Kind = Kind {
        name: "postgres.immediate_stop",
        family: Family::Postgres,
        about: "the immediate stop of pg_ctl: no checkpoint, then recovery",
        needs: Needs::OWN_POSTGRES,
        harm: Harm { denies_database: true, ..HARM },
    };

    fn draw(draw: &Draw<'_>) -> Vec<PlannedFault<Self>> {
        draw.spread(|draws| {
            let down_ms = outage_ms(draws, draw.profile);
            let on = Condition::OpenRequests(draw.profile.workers);
            (on, Self { down_ms })
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
        world.own_server()?.stop_at_once().await?;
        down(world, self.down_ms).await
    }

    async fn heal<S: System>(&self, world: &mut World<'_, S>) -> Result<(), SystemError> {
        heal_server(world).await
    }
}

impl Strike for KillPostgres {
    const KIND: Kind = Kind {
        name: "postgres.kill",
        family: Family::Postgres,
        about: "SIGKILL of the postmaster, then recovery",
        needs: Needs::OWN_POSTGRES,
        harm: Harm { denies_database: true, ..HARM },
    };

    fn draw(draw: &Draw<'_>) -> Vec<PlannedFault<Self>> {
        draw.spread(|draws| {
            let down_ms = outage_ms(draws, draw.profile);
            let on = Condition::OpenRequests(draw.profile.workers);
            (on, Self { down_ms })
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
        world.own_server()?.kill().await?;
        down(world, self.down_ms).await
    }

    async fn heal<S: System>(&self, world: &mut World<'_, S>) -> Result<(), SystemError> {
        heal_server(world).await
    }
}

async fn down<S: System>(world: &mut World<'_, S>, down_ms: u64) -> Result<Observed, SystemError> {
    let effective_us = world.recorder.now_us();
    let seen = sit_out(world, over_in(down_ms)).await?;
    Ok(Observed::seen(effective_us, seen))
}
