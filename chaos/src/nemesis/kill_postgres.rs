//! SIGKILL of the postmaster: its backends end by themselves when they notice; then it recovers.
//!
//! Endangers: acknowledged events, presence (the table of workers is emptied), statements whose outcome
//! nobody knows, duplicates; past the lease, results in hand. The effect is that a client cannot connect.

use serde::{Deserialize, Serialize};

use super::draw::spread;
use super::outage::{self, go_down, outage_ms};
use super::{Applied, Fault, PlannedFault, Sight, World};
use crate::fault::{Family, Kind, Needs};
use crate::postgres::OwnServer;
use crate::profile::Profile;
use crate::seed::Seed;
use crate::system::System;

pub(super) const KIND: Kind = Kind {
    name: "postgres.kill",
    family: Family::Postgres,
    about: "SIGKILL of the postmaster, then recovery",
    needs: Needs::OWN_POSTGRES,
    harm: outage::HARM,
};

/// SIGKILL of the postmaster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KillPostgres {
    /// How long it stays down, in milliseconds.
    pub down_ms: u64,
}

pub(super) fn draw(seed: Seed, profile: &Profile) -> Vec<PlannedFault> {
    spread(seed, profile, &KIND, |draws| {
        let down_ms = outage_ms(draws, profile);
        let on = Sight::OpenRequests(profile.workers);
        (on, Fault::KillPostgres(KillPostgres { down_ms }))
    })
}

impl KillPostgres {
    pub(super) async fn apply<S: System>(&self, world: &mut World<'_, S>, fault: u64) -> Applied {
        go_down(world, (fault, &KIND), self.down_ms, OwnServer::kill).await
    }
}
