//! One receiver takes every request and answers none, while the others are healthy.
//!
//! Endangers: isolation, liveness. Its scripts wait: a request hangs until its sender's deadline, so an
//! event uses up attempts. It begins with the first request that hangs; the effect is all of them.

use std::time::Duration;

use rand::RngExt;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use super::draw::spread;
use super::over_link::{TOUCHED, untouched};
use super::{Applied, Fault, PlannedFault, RECEIVER_FAULT_MS_MAX, Sight, World};
use crate::fault::{Aftermath, Family, Harm, Kills, Kind, Needs, Target};
use crate::profile::Profile;
use crate::seed::Seed;

pub(super) const KIND: Kind = Kind {
    name: "receiver.hang",
    family: Family::Receiver,
    about: "one receiver takes every request and answers none",
    needs: Needs::NOTHING,
    harm: Harm {
        kills: Kills::Nothing,
        stops_workers: false,
        expires_leases: false,
        loses_settles: false,
        loses_presence: false,
        loses_requests: false,
        withholds_responses: true,
        exhausts_machine: false,
        logs_errors: false,
        abandons_max: 0,
        aftermath: Aftermath::Receiver {
            for_ms: RECEIVER_FAULT_MS_MAX,
        },
    },
};

/// The shortest hang, in milliseconds: twice of what a healthy target's event may wait for its turn.
const FOR_MS_MIN: u64 = 4_000;

/// A receiver that hangs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HangReceiver {
    /// Which receiver, from 0.
    pub receiver: u32,
    /// How long, in milliseconds.
    pub for_ms: u64,
}

pub(super) fn draw(seed: Seed, profile: &Profile) -> Vec<PlannedFault> {
    spread(seed, profile, &KIND, |draws| {
        let hang = HangReceiver {
            receiver: draws.random_range(0..profile.receivers),
            for_ms: draws.random_range(FOR_MS_MIN..=RECEIVER_FAULT_MS_MAX),
        };
        (Sight::Time, Fault::HangReceiver(hang))
    })
}

impl HangReceiver {
    pub(super) async fn apply<S>(&self, world: &mut World<'_, S>, fault: u64) -> Applied {
        let name = format!("r{}", self.receiver);
        let begun = world.begin(fault, &KIND, Target::Receiver(self.receiver));
        let before = world.hangs.hung(self.receiver);
        let hung = || world.hangs.hung(self.receiver) - before;
        world.hangs.begin(self.receiver);
        let until = Instant::now() + TOUCHED;
        if hung() == 0 && !world.recorder.sees(until, |_| hung() > 0).await {
            return Err(untouched("receivers", &name));
        }
        let effective_us = world.recorder.now_us();
        sleep(Duration::from_millis(self.for_ms)).await;
        self.heal(world)?;
        let observed = Some(format!("{} requests hung", hung()));
        world.effect(&begun, effective_us, Vec::new(), observed);
        world.end(&begun);
        Ok(())
    }

    pub(super) fn heal<S>(&self, world: &World<'_, S>) -> Applied {
        world.hangs.end(self.receiver);
        Ok(())
    }
}
