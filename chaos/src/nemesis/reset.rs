//! Connections of a link that are reset at a byte: in the middle of a request, an answer, a statement.
//!
//! Endangers: unknown outcomes, whole payloads, duplicates. The effect is the resets.

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
    name: "net.reset",
    family: Family::Network,
    about: "connections of a link that are reset after so many bytes of a direction",
    needs: Needs::LINKS,
    harm: over_link::HARM,
};

/// A byte of what the connecting side says is below two to this power, so that nearly every request has it;
/// each length of number is as likely, so that the begin of a head is hit as often as a payload.
const UP_BITS_MAX: u32 = 10;
/// The same of what the accepting side says: answers are short.
const DOWN_BITS_MAX: u32 = 6;
/// Longest time that connections are reset, from the first reset on, in milliseconds.
const FOR_MS_MAX: u64 = 1_000;

/// Resets at a byte.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reset {
    /// Which link.
    pub link: Link,
    /// The direction whose bytes are counted.
    pub direction: Direction,
    /// How many of them pass on each connection.
    pub at_byte: u64,
    /// How long, in milliseconds.
    pub for_ms: u64,
}

pub(super) fn draw(seed: Seed, profile: &Profile) -> Vec<PlannedFault> {
    spread(seed, profile, &KIND, |draws| {
        let direction = any_direction(draws);
        let bits_max = match direction {
            Direction::Up => UP_BITS_MAX,
            Direction::Down => DOWN_BITS_MAX,
        };
        let below = 1_u64 << draws.random_range(0..=bits_max);
        let reset = Reset {
            link: any_link(draws, profile),
            direction,
            at_byte: draws.random_range(0..below),
            for_ms: draws.random_range(0..=FOR_MS_MAX),
        };
        (Sight::Time, Fault::Reset(reset))
    })
}

impl Reset {
    pub(super) async fn apply<S: System>(&self, world: &World<'_, S>, fault: u64) -> Applied {
        let control = Control::ResetAt(self.direction, self.at_byte);
        let (what, link) = ((fault, &KIND), (self.link, control));
        hold(world, what, link, self.for_ms).await
    }

    pub(super) fn heal<S>(&self, world: &World<'_, S>) -> Applied {
        world.links.heal(self.link);
        Ok(())
    }
}
