//! The server's disk is full: nothing that needs room is written any more, and a server that cannot write
//! its log ends by itself.
//!
//! Endangers: acknowledged events, the 503 where nothing was stored, results in hand, liveness. The effect
//! is a write of the harness's own that was refused.

use std::time::Duration;

use rand::RngExt;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::draw::spread;
use super::outage::{self, heal, outage_ms, over_in};
use super::{Applied, Fault, PlannedFault, Sight, World};
use crate::fault::{Family, Kind, Needs, Target};
use crate::postgres::OwnServer;
use crate::profile::Profile;
use crate::seed::Seed;
use crate::system::System;

pub(super) const KIND: Kind = Kind {
    name: "postgres.disk_full",
    family: Family::Postgres,
    about: "the disk of the server is full, then has room again (needs root)",
    needs: Needs {
        small_disk: true,
        ..Needs::OWN_POSTGRES
    },
    harm: outage::HARM,
};

/// Room that is left at most, in bytes.
const SPARE_BYTES_MAX: u64 = 256 * 1024;
/// How long one write may take, in seconds.
const WRITE: Duration = Duration::from_secs(2);
/// Time between two writes, in milliseconds.
const WRITE_AGAIN: Duration = Duration::from_millis(20);

/// A full disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FillDisk {
    /// What is left, in bytes.
    pub spare_bytes: u64,
    /// How long, in milliseconds.
    pub for_ms: u64,
}

pub(super) fn draw(seed: Seed, profile: &Profile) -> Vec<PlannedFault> {
    spread(seed, profile, &KIND, |draws| {
        let full = FillDisk {
            spare_bytes: draws.random_range(0..=SPARE_BYTES_MAX),
            for_ms: outage_ms(draws, profile),
        };
        (Sight::OpenRequests(profile.workers), Fault::FillDisk(full))
    })
}

impl FillDisk {
    pub(super) async fn apply<S: System>(&self, world: &mut World<'_, S>, fault: u64) -> Applied {
        let taken = world.own_server()?.fill_disk(self.spare_bytes)?;
        let begun = world.begin(fault, &KIND, Target::Postgres);
        let until = over_in(self.for_ms);
        let refusal = write_until_refused(world.own_server()?, until).await;
        let effective_us = world.recorder.now_us();
        sleep_until(until).await;
        heal(world).await?;
        let observed =
            refusal.map(|why| format!("{} MiB filled up; a write was refused: {why}", taken >> 20));
        world.effect(&begun, effective_us, Vec::new(), observed);
        world.end(&begun);
        Ok(())
    }
}

/// What a write was told that was refused, if one was in time.
async fn write_until_refused(own: &OwnServer, until: Instant) -> Option<String> {
    let write = "create table if not exists public.chaos_filler (filler text);
        alter table public.chaos_filler alter column filler set storage external;
        insert into public.chaos_filler select repeat('x', 100000);";
    while Instant::now() < until {
        let written = async {
            let mut session = own.session().await?;
            sqlx::raw_sql(write).execute(&mut session).await
        };
        if let Ok(Err(error)) = timeout(WRITE, written).await {
            return Some(error.to_string());
        }
        sleep(WRITE_AGAIN).await;
    }
    None
}
