//! A link that swallows one direction: what is said is done and never answered, or never comes.
//!
//! Endangers: unknown outcomes of inserts, claims and settles, duplicates. The effect is the bytes that
//! were swallowed.

use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::draw::spread;
use super::over_link::{any_direction, any_link, hold};
use super::{Applied, Fault, FaultKind, PlannedFault, Sight, World};
use crate::history::facts::NET_ONE_WAY;
use crate::profile::Profile;
use crate::proxy::{Control, Direction};
use crate::seed::Seed;
use crate::system::System;

/// The register's entry.
pub(super) const KIND: FaultKind = FaultKind {
    name: NET_ONE_WAY,
    what: "a link that swallows one direction and passes the other",
    draw,
};

/// Shortest time, in milliseconds.
const FOR_MS_MIN: u64 = 300;
/// Longest time, in milliseconds.
const FOR_MS_MAX: u64 = 1_500;

/// One direction is swallowed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OneWay {
    /// Which link.
    pub link: String,
    /// Which direction is swallowed.
    pub swallowed: Direction,
    /// How long, in milliseconds.
    pub for_ms: u64,
}

fn draw(seed: Seed, profile: &Profile) -> Vec<PlannedFault> {
    spread(seed, profile, KIND.name, |draws| {
        let one_way = OneWay {
            link: any_link(draws, profile),
            swallowed: any_direction(draws),
            for_ms: draws.random_range(FOR_MS_MIN..=FOR_MS_MAX),
        };
        (Sight::Time, Fault::OneWay(one_way))
    })
}

impl OneWay {
    pub(super) async fn apply<S: System>(&self, world: &World<'_, S>, fault: u64) -> Applied {
        let control = Control::Swallow(self.swallowed);
        let (what, link) = ((fault, KIND.name), (self.link.as_str(), control));
        hold(world, what, link, self.for_ms).await
    }

    pub(super) fn heal<S>(&self, world: &World<'_, S>) -> Applied {
        world.links.heal(&self.link);
        Ok(())
    }
}
