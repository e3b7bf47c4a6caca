//! The immediate stop of the server (`pg_ctl -m immediate`): no checkpoint, no goodbye; then it recovers.
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
    name: "postgres.immediate_stop",
    family: Family::Postgres,
    about: "the immediate stop of pg_ctl: no checkpoint, then recovery",
    needs: Needs::OWN_POSTGRES,
    harm: outage::HARM,
};

/// The immediate stop of the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopPostgres {
    /// How long it stays down, in milliseconds.
    pub down_ms: u64,
}

pub(super) fn draw(seed: Seed, profile: &Profile) -> Vec<PlannedFault> {
    spread(seed, profile, &KIND, |draws| {
        let down_ms = outage_ms(draws, profile);
        let on = Sight::OpenRequests(profile.workers);
        (on, Fault::StopPostgres(StopPostgres { down_ms }))
    })
}

impl StopPostgres {
    pub(super) async fn apply<S: System>(&self, world: &mut World<'_, S>, fault: u64) -> Applied {
        go_down(world, (fault, &KIND), self.down_ms, OwnServer::stop_at_once).await
    }
}
