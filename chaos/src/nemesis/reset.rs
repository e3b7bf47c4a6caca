//! Resets at a byte: each connection of a link is reset after a number of bytes in one direction.
//!
//! Endangers: unknown outcomes, complete payloads, duplicates. The effect is the number of resets.

use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::over_link::{HARM, any_direction, any_link, hold};
use super::strike::{Draw, Observed, Start, Strike};
use super::world::World;
use crate::fault::{Family, Kind, Link, Needs, Target};
use crate::plan::{Condition, PlannedFault};
use crate::proxy::{Control, Direction};
use crate::system::{System, SystemError};

/// The byte in the direction of requests is below two to a power of at most this, so that nearly
/// every request reaches it. Each power is equally likely, so that heads are hit as often as
/// payloads.
const UP_BITS_MAX: u32 = 10;
/// The same for the direction of responses, which are short.
const DOWN_BITS_MAX: u32 = 6;
/// Longest duration after the first reset, in milliseconds.
const FOR_MS_MAX: u64 = 1_000;

/// Resets at a byte on one link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reset {
    /// The link.
    pub link: Link,
    /// The direction whose bytes are counted.
    pub direction: Direction,
    /// Number of bytes that pass on each connection.
    pub at_byte: u64,
    /// Duration, in milliseconds.
    pub for_ms: u64,
}

impl Strike for Reset {
    const KIND: Kind = Kind {
        name: "net.reset",
        family: Family::Network,
        about: "connections of a link that are reset after a number of bytes in one direction",
        needs: Needs::LINKS,
        harm: HARM,
    };

    fn draw(draw: &Draw<'_>) -> Vec<PlannedFault<Self>> {
        draw.spread(|draws| {
            let direction = any_direction(draws);
            let bits_max = match direction {
                Direction::Up => UP_BITS_MAX,
                Direction::Down => DOWN_BITS_MAX,
            };
            let below = 1_u64 << draws.random_range(0..=bits_max);
            let reset = Self {
                link: any_link(draws, draw.profile),
                direction,
                at_byte: draws.random_range(0..below),
                for_ms: draws.random_range(0..=FOR_MS_MAX),
            };
            (Condition::Time, reset)
        })
    }

    fn target(&self) -> Target {
        Target::Links(vec![self.link])
    }

    async fn strike<S: System>(
        &self,
        world: &mut World<'_, S>,
        _: &Start,
    ) -> Result<Observed, SystemError> {
        let control = Control::ResetAt(self.direction, self.at_byte);
        hold(world, self.link, control, self.for_ms).await
    }

    async fn heal<S: System>(&self, world: &mut World<'_, S>) -> Result<(), SystemError> {
        world.links.heal(self.link);
        Ok(())
    }
}
