//! The harness holds every connection of the server, in some faults after it ended the sessions of
//! the dispatcher.
//!
//! Endangers: presence, the 503 in time, results that workers hold past the lease, liveness. The
//! effect is that one more client is refused because there are too many.

use std::time::Duration;

use rand::RngExt;
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use tokio::time::{Instant, sleep};

use super::outage::{HARM, connect, end_sessions, heal_server, outage_ms, over_in, sessions};
use super::strike::{Draw, Observed, Start, Strike};
use super::world::World;
use crate::fault::{Family, Kind, Needs, Target};
use crate::plan::{Condition, PlannedFault};
use crate::postgres::OwnServer;
use crate::system::{System, SystemError};

/// Of three faults, this number ends the sessions of the dispatcher.
const SHUT_OUT_OF_3: u32 = 2;
/// Time between two attempts to take free connections.
const GRAB: Duration = Duration::from_millis(50);

/// Exhausted connections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExhaustConnections {
    /// True if the sessions of the dispatcher are ended and their places taken, too.
    pub shut_out: bool,
    /// Duration, in milliseconds.
    pub for_ms: u64,
}

impl Strike for ExhaustConnections {
    const KIND: Kind = Kind {
        name: "postgres.exhaust",
        family: Family::Postgres,
        about: "every connection held by the harness, sometimes after ending the dispatcher's",
        needs: Needs::OWN_POSTGRES,
        harm: HARM,
    };

    fn draw(draw: &Draw<'_>) -> Vec<PlannedFault<Self>> {
        draw.spread(|draws| {
            let exhaust = Self {
                shut_out: draws.random_range(0..3) < SHUT_OUT_OF_3,
                for_ms: outage_ms(draws, draw.profile),
            };
            (Condition::Time, exhaust)
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
        let mut held = Vec::new();
        let mut refusal = grab(world.own_server()?, &mut held).await;
        let effective_us = world.recorder.now_us();
        let until = over_in(self.for_ms);
        let mut others = sessions(&mut watch).await?;
        while Instant::now() < until {
            if self.shut_out && !others.is_empty() {
                end_sessions(&mut watch, &others).await?;
            }
            // A free connection is taken here, or the dispatcher takes it and loses it in the next
            // turn.
            refusal = grab(world.own_server()?, &mut held).await;
            sleep(GRAB).await;
            others = sessions(&mut watch).await?;
        }
        let (held, left) = (held.len() + 1, others.len());
        let seen = refusal.map(|why| {
            format!("{held} sessions held, {left} left to the dispatcher; one more: {why}")
        });
        Ok(Observed::seen(effective_us, seen))
    }

    async fn heal<S: System>(&self, world: &mut World<'_, S>) -> Result<(), SystemError> {
        heal_server(world).await
    }
}

/// Takes every free connection, and returns the refusal of the next one.
async fn grab(own: &OwnServer, held: &mut Vec<PgConnection>) -> Option<String> {
    loop {
        match own.session().await {
            Ok(session) => held.push(session),
            Err(error) => return Some(error.to_string()),
        }
    }
}
