//! A link that swallows one direction: what is said is done and never answered, or never comes.
//!
//! Endangers: unknown outcomes of inserts, claims and settles, duplicates. The effect is the bytes that
//! were swallowed.

use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::draw::spread;
use super::over_link::{self, any_direction, any_link, hold};
use super::{Applied, Fault, PlannedFault, Sight, World};
use crate::fault::{Family, Kind, Link, Needs};
use crate::profile::Profile;
use crate::proxy::{Control, Direction};
use crate::seed::Seed;
use crate::system::System;

pub(super) const KIND: Kind = Kind {
    name: "net.one_way",
    family: Family::Network,
    about: "a link that swallows one direction and passes the other",
    needs: Needs::LINKS,
    harm: over_link::HARM,
};

/// Shortest time, in milliseconds.
const FOR_MS_MIN: u64 = 300;
/// Longest time, in milliseconds.
const FOR_MS_MAX: u64 = 1_500;

/// One direction is swallowed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OneWay {
    /// Which link.
    pub link: Link,
    /// Which direction is swallowed.
    pub swallowed: Direction,
    /// How long, in milliseconds.
    pub for_ms: u64,
}

pub(super) fn draw(seed: Seed, profile: &Profile) -> Vec<PlannedFault> {
    spread(seed, profile, &KIND, |draws| {
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
        let (what, link) = ((fault, &KIND), (self.link, control));
        hold(world, what, link, self.for_ms).await
    }

    pub(super) fn heal<S>(&self, world: &World<'_, S>) -> Applied {
        world.links.heal(self.link);
        Ok(())
    }
}
