//! SIGSTOP of the whole server, or of the postmaster alone, then SIGCONT.
//!
//! Endangers: waits without a bound, the 503 in time, results that workers hold past the lease, and
//! statements that continue after their client stopped waiting. If the server is paused, sessions
//! hang. If only the postmaster is paused, new connections hang. The effect is a statement, or a
//! connection attempt, that waited.

use rand::RngExt;
use serde::{Deserialize, Serialize};
use tokio::time::sleep_until;

use super::outage::{HARM, connect, heal_server, outage_ms, over_in, sit_out};
use super::strike::{Draw, Observed, Start, Strike};
use super::world::World;
use crate::fault::{Family, Harm, Kind, Needs, Target};
use crate::plan::{Condition, PlannedFault};
use crate::system::{System, SystemError};

/// Of four pauses, this number stops only the postmaster.
const POSTMASTER_ALONE_OF_4: u32 = 1;

/// SIGSTOP and SIGCONT of the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PausePostgres {
    /// True if the sessions are paused, too.
    pub all: bool,
    /// Duration, in milliseconds.
    pub for_ms: u64,
}

impl Strike for PausePostgres {
    const KIND: Kind = Kind {
        name: "postgres.pause",
        family: Family::Postgres,
        about: "SIGSTOP of the server, or of the postmaster alone, then SIGCONT",
        needs: Needs::OWN_POSTGRES,
        harm: Harm { denies_database: true, ..HARM },
    };

    fn draw(draw: &Draw<'_>) -> Vec<PlannedFault<Self>> {
        draw.spread(|draws| {
            let pause = Self {
                all: draws.random_range(0..4) >= POSTMASTER_ALONE_OF_4,
                for_ms: outage_ms(draws, draw.profile),
            };
            (Condition::OpenRequests(draw.profile.workers), pause)
        })
    }

    fn target(&self) -> Target {
        if self.all { Target::Postgres } else { Target::Postmaster }
    }

    async fn strike<S: System>(
        &self,
        world: &mut World<'_, S>,
        start: &Start,
    ) -> Result<Observed, SystemError> {
        let seen = if self.all {
            self.pause_all(world).await?
        } else {
            let until = over_in(self.for_ms);
            world.own_server()?.pause(false).await?;
            sit_out(world, until).await?
        };
        Ok(Observed::seen(start.at_us, seen))
    }

    async fn heal<S: System>(&self, world: &mut World<'_, S>) -> Result<(), SystemError> {
        heal_server(world).await
    }
}

impl PausePostgres {
    /// Pauses the server. A session that existed before sends a statement, which must not end
    /// before the heal. The session is held by a task, because it ends only after the heal.
    async fn pause_all<S: System>(
        &self,
        world: &mut World<'_, S>,
    ) -> Result<Option<String>, SystemError> {
        let mut watch = connect(world).await?;
        world.own_server()?.pause(true).await?;
        let asked = async move { sqlx::query("select 1").execute(&mut watch).await };
        let waited = tokio::select! {
            biased;
            _ = tokio::spawn(asked) => false,
            () = sleep_until(over_in(self.for_ms)) => true,
        };
        let for_ms = self.for_ms;
        Ok(waited.then(|| format!("a statement waited for {for_ms} ms")))
    }
}
