//! SIGKILL of one backend: Postgres resets the instance, ends every session and recovers.
//!
//! Endangers: acknowledged events, presence (recovery empties the table of workers), statements
//! with unknown outcome, duplicates. The effect is that a session of the harness ended with the
//! others.

use std::time::Duration;

use rand::RngExt;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::outage::{HARM, connect, heal_server, sessions};
use super::strike::{Draw, Observed, Start, Strike};
use super::world::World;
use crate::fault::{Family, Kind, Needs, Target};
use crate::plan::{Condition, PlannedFault};
use crate::system::{System, SystemError};

/// How long the reset may take to end the session of the harness.
const RESET: Duration = Duration::from_secs(10);

/// SIGKILL of one backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KillBackend {
    /// The session of the dispatcher, by age from 0, modulo the number of sessions.
    pub session: usize,
}

impl Strike for KillBackend {
    const KIND: Kind = Kind {
        name: "postgres.kill_backend",
        family: Family::Postgres,
        about: "SIGKILL of one backend, which resets the whole instance",
        needs: Needs::OWN_POSTGRES,
        harm: HARM,
    };

    fn draw(draw: &Draw<'_>) -> Vec<PlannedFault<Self>> {
        draw.spread(|draws| {
            let session = draws.random_range(0..100);
            let on = Condition::OpenRequests(draw.profile.workers);
            (on, Self { session })
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
        let mut watch = connect(world).await?;
        let others = sessions(&mut watch).await?;
        let mut seen = None;
        if let Some(pid) = others.get(self.session % others.len().max(1)) {
            world.own_server()?.kill_backend(*pid)?;
            let bystander = sqlx::query("select pg_sleep(60)").execute(&mut watch);
            if let Ok(Err(error)) = timeout(RESET, bystander).await {
                let all = others.len() + 1;
                seen = Some(format!("one of {all} sessions killed, all ended: {error}"));
            }
        }
        Ok(Observed::seen(world.recorder.now_us(), seen))
    }

    async fn heal<S: System>(&self, world: &mut World<'_, S>) -> Result<(), SystemError> {
        heal_server(world).await
    }
}
