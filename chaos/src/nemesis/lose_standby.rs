//! The only synchronous standby is absent, so that every commit waits for it.
//!
//! Endangers: a 202 before the commit, sessions that pile up on the server behind statements that
//! the dispatcher has stopped waiting for, settles past the lease. `statement_timeout` does not end
//! this wait. The effect is the number of sessions that waited for the standby.

use std::time::Duration;

use rand::RngExt;
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use tokio::time::{Instant, sleep};

use super::outage::{HARM, connect, heal_server, outage_ms, over_in, refused, run_all, sessions};
use super::strike::{Draw, Observed, Start, Strike};
use super::world::World;
use crate::fault::{Family, Kind, Needs, Target};
use crate::plan::{Condition, PlannedFault};
use crate::system::{System, SystemError};

/// Shortest duration, in milliseconds. A client waits less for its response.
const FOR_MS_MIN: u64 = 1_500;
/// Time between two counts.
const LOOK: Duration = Duration::from_millis(50);
/// No server has this name.
const AWAIT: &[&str] =
    &["alter system set synchronous_standby_names = 'absent'", "select pg_reload_conf()"];
const STOP_WAITING: &[&str] =
    &["alter system reset synchronous_standby_names", "select pg_reload_conf()"];

/// An absent synchronous standby.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoseStandby {
    /// Duration, in milliseconds.
    pub for_ms: u64,
}

impl Strike for LoseStandby {
    const KIND: Kind = Kind {
        name: "postgres.lose_standby",
        family: Family::Postgres,
        about: "the only synchronous standby is absent, so that every commit waits",
        needs: Needs::OWN_POSTGRES,
        harm: HARM,
    };

    fn draw(draw: &Draw<'_>) -> Vec<PlannedFault<Self>> {
        draw.spread(|draws| {
            let lose = Self {
                for_ms: outage_ms(draws, draw.profile)
                    .max(draws.random_range(FOR_MS_MIN..=2 * FOR_MS_MIN)),
            };
            (Condition::OpenRequests(draw.profile.workers), lose)
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
        run_all(&mut watch, AWAIT).await?;
        let effective_us = world.recorder.now_us();
        let until = over_in(self.for_ms);
        let (mut waiting, mut open) = (0, 0);
        while Instant::now() < until {
            waiting = waiting.max(waiting_for_standby(&mut watch).await?);
            open = open.max(sessions(&mut watch).await?.len());
            sleep(LOOK).await;
        }
        let for_ms = self.for_ms;
        let seen = format!(
            "no standby for {for_ms} ms; up to {waiting} sessions waited for it, of at most {open}"
        );
        Ok(Observed::seen(effective_us, (waiting > 0).then_some(seen)))
    }

    async fn heal<S: System>(&self, world: &mut World<'_, S>) -> Result<(), SystemError> {
        heal_server(world).await?;
        // No fault touches a shared server.
        match connect(world).await {
            Ok(mut session) => run_all(&mut session, STOP_WAITING).await,
            Err(SystemError::Unavailable { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// The number of sessions whose commit waits for a standby now.
async fn waiting_for_standby(watch: &mut PgConnection) -> Result<i64, SystemError> {
    let count = "select count(*) from pg_stat_activity where wait_event = 'SyncRep'";
    let count = sqlx::query_scalar(count).fetch_one(watch).await;
    count.map_err(|error| refused("counting sessions that wait", &error))
}
