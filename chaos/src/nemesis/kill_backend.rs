//! SIGKILL of one backend: Postgres resets the whole instance, ends every session and recovers.
//!
//! Endangers: acknowledged events, presence (the table of workers is emptied), statements whose outcome
//! nobody knows, duplicates. The effect is that a session of the harness's own ended with the others.

use std::time::Duration;

use rand::RngExt;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::draw::spread;
use super::outage::{self, heal, refused, sessions};
use super::{Applied, Fault, PlannedFault, Sight, World};
use crate::fault::{Family, Kind, Needs, Target};
use crate::profile::Profile;
use crate::seed::Seed;
use crate::system::System;

pub(super) const KIND: Kind = Kind {
    name: "postgres.kill_backend",
    family: Family::Postgres,
    about: "SIGKILL of one backend, which resets the whole instance",
    needs: Needs::OWN_POSTGRES,
    harm: outage::HARM,
};

/// How long the reset may take to end a bystander's session, in seconds.
const RESET: Duration = Duration::from_secs(10);

/// SIGKILL of a backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KillBackend {
    /// Which of the dispatcher's, from 0, in order of age; it begins anew after the last.
    pub session: usize,
}

pub(super) fn draw(seed: Seed, profile: &Profile) -> Vec<PlannedFault> {
    spread(seed, profile, &KIND, |draws| {
        let session = draws.random_range(0..100);
        let on = Sight::OpenRequests(profile.workers);
        (on, Fault::KillBackend(KillBackend { session }))
    })
}

impl KillBackend {
    pub(super) async fn apply<S: System>(&self, world: &mut World<'_, S>, fault: u64) -> Applied {
        let watch = world.own_server()?.session().await;
        let mut watch = watch.map_err(|error| refused("connecting", &error))?;
        let begun = world.begin(fault, &KIND, Target::Postgres);
        let others = sessions(&mut watch).await?;
        let mut observed = None;
        if let Some(pid) = others.get(self.session % others.len().max(1)) {
            world.own_server()?.kill_backend(*pid)?;
            let bystander = sqlx::query("select pg_sleep(60)").execute(&mut watch);
            if let Ok(Err(error)) = timeout(RESET, bystander).await {
                let all = others.len() + 1;
                observed = Some(format!("one of {all} sessions killed, all ended: {error}"));
            }
        }
        let effective_us = world.recorder.now_us();
        heal(world).await?;
        world.effect(&begun, effective_us, Vec::new(), observed);
        world.end(&begun);
        Ok(())
    }
}
