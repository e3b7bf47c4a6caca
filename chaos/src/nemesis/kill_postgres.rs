//! SIGKILL of the postmaster: its backends end by themselves when they notice; then it recovers.
//!
//! Endangers: acknowledged events, presence (the table of workers is emptied), statements whose outcome
//! nobody knows, duplicates; past the lease, results in hand. The effect is that a client cannot connect.

use serde::{Deserialize, Serialize};

use super::draw::spread;
use super::outage::{go_down, outage_ms};
use super::{Applied, Fault, FaultKind, PlannedFault, Sight, World};
use crate::postgres::OwnServer;
use crate::profile::Profile;
use crate::seed::Seed;
use crate::system::System;

/// The register's entry.
pub(super) const KIND: FaultKind = FaultKind {
    name: "postgres.kill",
    what: "SIGKILL of the postmaster, then recovery",
    draw,
};

/// SIGKILL of the postmaster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KillPostgres {
    /// How long it stays down, in milliseconds.
    pub down_ms: u64,
}

fn draw(seed: Seed, profile: &Profile) -> Vec<PlannedFault> {
    spread(seed, profile, KIND.name, |draws| {
        let down_ms = outage_ms(draws, profile);
        let on = Sight::OpenRequests(profile.workers);
        (on, Fault::KillPostgres(KillPostgres { down_ms }))
    })
}

impl KillPostgres {
    pub(super) async fn apply<S: System>(&self, world: &mut World<'_, S>, fault: u64) -> Applied {
        go_down(world, (fault, KIND.name), self.down_ms, OwnServer::kill).await
    }
}
