//! Latency on a link: each piece is delayed, some pieces by more than others.
//!
//! Endangers: deadlines, presence and claims of a worker with a slow database, order of arrival.
//! The effect is the number of delayed pieces.

use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::over_link::{HARM, any_link, hold};
use super::strike::{Draw, Observed, Start, Strike};
use super::world::World;
use crate::fault::{Family, Kind, Link, Needs, Target};
use crate::plan::{Condition, PlannedFault};
use crate::proxy::Control;
use crate::system::{System, SystemError};

/// Least delay of a piece, in milliseconds.
const DELAY_MS_MIN: u64 = 10;
/// Greatest delay of a piece, in milliseconds. A claim takes several round trips and must succeed.
const DELAY_MS_MAX: u64 = 200;
/// Greatest additional delay of one piece, in milliseconds.
const JITTER_MS_MAX: u64 = 100;
/// Shortest duration, in milliseconds.
const FOR_MS_MIN: u64 = 300;
/// Longest duration, in milliseconds.
const FOR_MS_MAX: u64 = 2_000;

/// Latency on one link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// The link.
    pub link: Link,
    /// Least delay of each piece, in milliseconds.
    pub delay_ms: u64,
    /// Greatest additional delay, in milliseconds.
    pub jitter_ms: u64,
    /// Duration, in milliseconds.
    pub for_ms: u64,
}

impl Strike for Latency {
    const KIND: Kind = Kind {
        name: "net.latency",
        family: Family::Network,
        about: "a link that is late, by up to 0.3 s each way",
        needs: Needs::LINKS,
        harm: HARM,
    };

    fn draw(draw: &Draw<'_>) -> Vec<PlannedFault<Self>> {
        draw.spread(|draws| {
            let latency = Self {
                link: any_link(draws, draw.profile),
                delay_ms: draws.random_range(DELAY_MS_MIN..=DELAY_MS_MAX),
                jitter_ms: draws.random_range(0..=JITTER_MS_MAX),
                for_ms: draws.random_range(FOR_MS_MIN..=FOR_MS_MAX),
            };
            (Condition::Time, latency)
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
        let control = Control::Late { delay_ms: self.delay_ms, jitter_ms: self.jitter_ms };
        hold(world, self.link, control, self.for_ms).await
    }

    async fn heal<S: System>(&self, world: &mut World<'_, S>) -> Result<(), SystemError> {
        world.links.heal(self.link);
        Ok(())
    }
}
