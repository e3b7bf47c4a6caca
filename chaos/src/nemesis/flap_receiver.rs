//! A receiver that comes and goes: connections are refused, taken, refused again.
//!
//! Endangers: attempts, backoff, isolation. It is back for too short a time to work off what waits for
//! it. The effect is how often the harness's own connection was refused.

use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::draw::spread;
use super::refuse_receiver::{HARM, come_and_go};
use super::{Applied, Fault, PlannedFault, RECEIVER_FAULT_MS_MAX, Sight, World};
use crate::fault::{Family, Kind, Link, Needs};
use crate::profile::Profile;
use crate::seed::Seed;

pub(super) const KIND: Kind = Kind {
    name: "receiver.flap",
    family: Family::Receiver,
    about: "one receiver refuses connections, is back, refuses again, …",
    needs: Needs::LINKS,
    harm: HARM,
};

/// The shortest time away, or back, in milliseconds.
const TURN_MS_MIN: u64 = 100;
/// The longest time away, or back, in milliseconds.
const TURN_MS_MAX: u64 = 500;
/// How often it goes away; all of it takes no longer than any fault of a receiver may.
const TIMES: u64 = RECEIVER_FAULT_MS_MAX / (2 * TURN_MS_MAX);

/// A receiver that comes and goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlapReceiver {
    /// Which receiver, from 0.
    pub receiver: u32,
    /// How long it is away and how long it is back each time, in milliseconds.
    pub turns_ms: Vec<(u64, u64)>,
}

pub(super) fn draw(seed: Seed, profile: &Profile) -> Vec<PlannedFault> {
    spread(seed, profile, &KIND, |draws| {
        let receiver = draws.random_range(0..profile.receivers);
        let mut turn_ms = || draws.random_range(TURN_MS_MIN..=TURN_MS_MAX);
        let turns_ms = (0..TIMES).map(|_| (turn_ms(), turn_ms())).collect();
        let flap = FlapReceiver { receiver, turns_ms };
        (Sight::Time, Fault::FlapReceiver(flap))
    })
}

impl FlapReceiver {
    pub(super) async fn apply<S>(&self, world: &mut World<'_, S>, fault: u64) -> Applied {
        come_and_go(world, (fault, &KIND), self.receiver, &self.turns_ms).await
    }

    pub(super) fn heal<S>(&self, world: &World<'_, S>) -> Applied {
        world.links.heal(Link::ToReceiver(self.receiver));
        Ok(())
    }
}
