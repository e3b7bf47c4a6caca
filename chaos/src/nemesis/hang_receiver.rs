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
use super::{Applied, Fault, FaultKind, PlannedFault, Sight, World};
use crate::history::facts::{RECEIVER_FAULT_MS_MAX, RECEIVER_HANG};
use crate::profile::Profile;
use crate::seed::Seed;

/// The register's entry.
pub(super) const KIND: FaultKind = FaultKind {
    name: RECEIVER_HANG,
    what: "one receiver takes every request and answers none",
    draw,
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

fn draw(seed: Seed, profile: &Profile) -> Vec<PlannedFault> {
    spread(seed, profile, KIND.name, |draws| {
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
        let begun = world.begin(fault, KIND.name, &name);
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
