//! Black holes: a link swallows both directions, or one, and reports no error to either side.
//!
//! Endangers: fencing, lease exclusion, duplicates, liveness, and the outcome of inserts, claims
//! and settles. On a link to the database, half of the black holes outlast a lease. The server may
//! then end the session, so that the presence of a running worker ends. The effect is the number of
//! swallowed bytes.

use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::observed::BEYOND_LEASE_MS_MAX;
use super::over_link::{HARM, any_direction, any_link, hold};
use super::strike::{Draw, Observed, Start, Strike};
use super::world::World;
use crate::fault::{Family, Harm, Kind, Link, Needs, Target};
use crate::plan::{Condition, PlannedFault};
use crate::proxy::{Control, Direction};
use crate::system::{System, SystemError};

/// Shortest duration, in milliseconds.
const FOR_MS_MIN: u64 = 300;
/// Longest duration of a fault that does not outlast a lease, in milliseconds.
const FOR_MS_MAX: u64 = 1_500;

/// A link that swallows everything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlackHole {
    /// The link.
    pub link: Link,
    /// Duration, in milliseconds.
    pub for_ms: u64,
    /// True if the accepting side sees its connections end immediately, and only the other side
    /// keeps them.
    pub half_open: bool,
}

/// A link that swallows one direction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OneWay {
    /// The link.
    pub link: Link,
    /// The direction that is swallowed.
    pub swallowed: Direction,
    /// Duration, in milliseconds.
    pub for_ms: u64,
}

impl Strike for BlackHole {
    const KIND: Kind = Kind {
        name: "net.black_hole",
        family: Family::Network,
        about: "a link that swallows everything, to the database at times beyond a lease",
        needs: Needs::LINKS,
        harm: Harm { denies_database: true, ..HARM },
    };

    fn draw(draw: &Draw<'_>) -> Vec<PlannedFault<Self>> {
        draw.spread(|draws| {
            let link = any_link(draws, draw.profile);
            let short_ms = draws.random_range(FOR_MS_MIN..=FOR_MS_MAX);
            let beyond_ms = draws.random_range(0..=BEYOND_LEASE_MS_MAX);
            let is_long = draws.random_range(0..2) == 0;
            let outlasts = is_long && matches!(link, Link::ToPostgres(_));
            let black_hole = Self {
                for_ms: if outlasts {
                    draw.profile.settings.lease_ms + beyond_ms
                } else {
                    short_ms
                },
                half_open: draws.random_range(0..2) == 0,
                link,
            };
            (Condition::Time, black_hole)
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
        let control = if self.half_open { Control::HalfOpen } else { Control::BlackHole };
        hold(world, self.link, control, self.for_ms).await
    }

    async fn heal<S: System>(&self, world: &mut World<'_, S>) -> Result<(), SystemError> {
        world.links.heal(self.link);
        Ok(())
    }
}

impl Strike for OneWay {
    const KIND: Kind = Kind {
        name: "net.one_way",
        family: Family::Network,
        about: "a link that swallows one direction and passes the other",
        needs: Needs::LINKS,
        harm: Harm { denies_database: true, ..HARM },
    };

    fn draw(draw: &Draw<'_>) -> Vec<PlannedFault<Self>> {
        draw.spread(|draws| {
            let one_way = Self {
                link: any_link(draws, draw.profile),
                swallowed: any_direction(draws),
                for_ms: draws.random_range(FOR_MS_MIN..=FOR_MS_MAX),
            };
            (Condition::Time, one_way)
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
        let control = Control::Swallow(self.swallowed);
        hold(world, self.link, control, self.for_ms).await
    }

    async fn heal<S: System>(&self, world: &mut World<'_, S>) -> Result<(), SystemError> {
        world.links.heal(self.link);
        Ok(())
    }
}
