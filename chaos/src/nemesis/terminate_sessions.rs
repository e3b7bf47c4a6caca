//! `pg_terminate_backend` of the dispatcher's sessions, once or again and again: the polite end of a
//! connection, as by an operator or a proxy.
//!
//! Endangers: statements whose outcome nobody knows then, presence, duplicates. The effect is the number
//! of sessions that ended.

use std::time::Duration;

use rand::RngExt;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::draw::spread;
use super::outage::{self, heal, refused, sessions};
use super::{Applied, Fault, PlannedFault, Sight, World};
use crate::fault::{Family, Kind, Needs, Target};
use crate::profile::Profile;
use crate::seed::Seed;
use crate::system::System;

pub(super) const KIND: Kind = Kind {
    name: "postgres.terminate",
    family: Family::Postgres,
    about: "pg_terminate_backend of sessions, once or several times in a row",
    needs: Needs::OWN_POSTGRES,
    harm: outage::HARM,
};

/// Rounds of one fault at most.
const ROUNDS_MAX: u32 = 6;
/// Longest time between two rounds, in milliseconds.
const PAUSE_MS_MAX: u64 = 600;

/// The polite end of sessions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminateSessions {
    /// Of so many sessions, one is ended in each round.
    pub one_of: usize,
    /// The time after each round, in milliseconds.
    pub pauses_ms: Vec<u64>,
}

pub(super) fn draw(seed: Seed, profile: &Profile) -> Vec<PlannedFault> {
    spread(seed, profile, &KIND, |draws| {
        let rounds = draws.random_range(1..=ROUNDS_MAX);
        let terminate = TerminateSessions {
            one_of: draws.random_range(1..=3),
            pauses_ms: (0..rounds)
                .map(|_| draws.random_range(0..=PAUSE_MS_MAX))
                .collect(),
        };
        let on = Sight::OpenRequests(profile.workers);
        (on, Fault::TerminateSessions(terminate))
    })
}

impl TerminateSessions {
    pub(super) async fn apply<S: System>(&self, world: &mut World<'_, S>, fault: u64) -> Applied {
        let watch = world.own_server()?.session().await;
        let mut watch = watch.map_err(|error| refused("connecting", &error))?;
        let begun = world.begin(fault, &KIND, Target::Postgres);
        let mut ended = 0;
        for (pause_ms, round) in self.pauses_ms.iter().zip(0..) {
            let others = sessions(&mut watch).await?;
            let chosen = others.iter().skip(round % self.one_of);
            let chosen: Vec<i32> = chosen.step_by(self.one_of).copied().collect();
            let end = "select count(*) from unnest($1) as pid where pg_terminate_backend(pid)";
            let now_ended = sqlx::query_scalar::<_, i64>(end).bind(chosen);
            let now_ended = now_ended.fetch_one(&mut watch).await;
            ended += now_ended.map_err(|error| refused("ending sessions", &error))?;
            sleep(Duration::from_millis(*pause_ms)).await;
        }
        heal(world).await?;
        let observed = (ended > 0).then(|| {
            let rounds = self.pauses_ms.len();
            format!("{ended} sessions ended in {rounds} rounds")
        });
        world.effect(&begun, begun.start_us, Vec::new(), observed);
        world.end(&begun);
        Ok(())
    }
}
