//! `pg_terminate_backend` of sessions of the dispatcher, in one or more rounds. Operators and
//! proxies end connections in the same way.
//!
//! Endangers: statements with unknown outcome, presence, duplicates. The effect is the number of
//! sessions that ended.

use std::time::Duration;

use rand::RngExt;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::outage::{HARM, connect, end_sessions, heal_server, sessions};
use super::strike::{Draw, Observed, Start, Strike};
use super::world::World;
use crate::fault::{Family, Kind, Needs, Target};
use crate::plan::{Condition, PlannedFault};
use crate::system::{System, SystemError};

/// Maximum number of rounds in one fault.
const ROUNDS_MAX: u32 = 6;
/// Longest time between two rounds, in milliseconds.
const PAUSE_MS_MAX: u64 = 600;

/// Terminated sessions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminateSessions {
    /// One session in this number ends in each round.
    pub one_of: usize,
    /// The time after each round, in milliseconds.
    pub pauses_ms: Vec<u64>,
}

impl Strike for TerminateSessions {
    const KIND: Kind = Kind {
        name: "postgres.terminate",
        family: Family::Postgres,
        about: "pg_terminate_backend of sessions, once or several times in a row",
        needs: Needs::OWN_POSTGRES,
        harm: HARM,
    };

    fn draw(draw: &Draw<'_>) -> Vec<PlannedFault<Self>> {
        draw.spread(|draws| {
            let rounds = draws.random_range(1..=ROUNDS_MAX);
            let terminate = Self {
                one_of: draws.random_range(1..=3),
                pauses_ms: (0..rounds).map(|_| draws.random_range(0..=PAUSE_MS_MAX)).collect(),
            };
            (Condition::OpenRequests(draw.profile.workers), terminate)
        })
    }

    fn target(&self) -> Target {
        Target::Postgres
    }

    async fn strike<S: System>(
        &self,
        world: &mut World<'_, S>,
        start: &Start,
    ) -> Result<Observed, SystemError> {
        let mut watch = connect(world).await?;
        let mut ended = 0;
        for (pause_ms, round) in self.pauses_ms.iter().zip(0..) {
            let others = sessions(&mut watch).await?;
            let chosen = others.iter().skip(round % self.one_of);
            let chosen: Vec<i32> = chosen.step_by(self.one_of).copied().collect();
            ended += end_sessions(&mut watch, &chosen).await?;
            sleep(Duration::from_millis(*pause_ms)).await;
        }
        let rounds = self.pauses_ms.len();
        let seen = (ended > 0).then(|| format!("{ended} sessions ended in {rounds} rounds"));
        Ok(Observed::seen(start.at_us, seen))
    }

    async fn heal<S: System>(&self, world: &mut World<'_, S>) -> Result<(), SystemError> {
        heal_server(world).await
    }
}
