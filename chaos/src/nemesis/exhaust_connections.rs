//! The harness holds every connection that the server gives out, and sometimes ends those of the
//! dispatcher first, so that it is shut out altogether.
//!
//! Endangers: presence, the 503 in time, results in hand past the lease, liveness. The effect is that one
//! more client is refused because there are too many.

use std::time::Duration;

use rand::RngExt;
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use tokio::time::{Instant, sleep};

use super::draw::spread;
use super::outage::{self, heal, outage_ms, over_in, refused, sessions};
use super::{Applied, Fault, PlannedFault, Sight, World};
use crate::fault::{Family, Kind, Needs, Target};
use crate::postgres::OwnServer;
use crate::profile::Profile;
use crate::seed::Seed;
use crate::system::{System, SystemError};

pub(super) const KIND: Kind = Kind {
    name: "postgres.exhaust",
    family: Family::Postgres,
    about: "every connection held by the harness, sometimes after ending the dispatcher's",
    needs: Needs::OWN_POSTGRES,
    harm: outage::HARM,
};

/// Of three exhaustions, this many end the dispatcher's sessions first.
const SHUT_OUT_OF_3: u32 = 2;
/// Time between two looks for a connection that is free again, in milliseconds.
const GRAB: Duration = Duration::from_millis(50);

/// Every connection taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExhaustConnections {
    /// True when the dispatcher's own sessions are ended, too.
    pub shut_out: bool,
    /// How long they are held, in milliseconds.
    pub for_ms: u64,
}

pub(super) fn draw(seed: Seed, profile: &Profile) -> Vec<PlannedFault> {
    spread(seed, profile, &KIND, |draws| {
        let exhaust = ExhaustConnections {
            shut_out: draws.random_range(0..3) < SHUT_OUT_OF_3,
            for_ms: outage_ms(draws, profile),
        };
        (Sight::Time, Fault::ExhaustConnections(exhaust))
    })
}

impl ExhaustConnections {
    pub(super) async fn apply<S: System>(&self, world: &mut World<'_, S>, fault: u64) -> Applied {
        let watch = world.own_server()?.session().await;
        let mut watch = watch.map_err(|error| refused("connecting", &error))?;
        let begun = world.begin(fault, &KIND, Target::Postgres);
        let mut held = Vec::new();
        let mut refusal = grab(world.own_server()?, &mut held).await;
        let effective_us = world.recorder.now_us();
        let until = over_in(self.for_ms);
        let mut others = sessions(&mut watch).await?;
        while Instant::now() < until {
            if self.shut_out && !others.is_empty() {
                end(&mut watch, &others).await?;
            }
            // What became free is taken before the dispatcher gets it, or the next look ends that.
            refusal = grab(world.own_server()?, &mut held).await;
            sleep(GRAB).await;
            others = sessions(&mut watch).await?;
        }
        let (held_count, left) = (held.len() + 1, others.len());
        drop(held);
        drop(watch);
        heal(world).await?;
        let observed = refusal.map(|why| {
            format!("{held_count} sessions held, {left} left to the dispatcher; one more: {why}")
        });
        world.effect(&begun, effective_us, Vec::new(), observed);
        world.end(&begun);
        Ok(())
    }
}

/// Takes every connection that is free; gives what the next one was told.
async fn grab(own: &OwnServer, held: &mut Vec<PgConnection>) -> Option<String> {
    loop {
        match own.session().await {
            Ok(session) => held.push(session),
            Err(error) => return Some(error.to_string()),
        }
    }
}

async fn end(watch: &mut PgConnection, pids: &[i32]) -> Result<(), SystemError> {
    let end = "select count(*) from unnest($1) as pid where pg_terminate_backend(pid)";
    let ended = sqlx::query(end).bind(pids).execute(watch).await;
    ended
        .map(drop)
        .map_err(|error| refused("ending sessions", &error))
}
