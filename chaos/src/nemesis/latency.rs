//! A link that is late: each piece by a delay, and some by more.
//!
//! Endangers: deadlines, the presence and the claims of a worker whose database is far away, the order
//! of what arrives. The effect is the pieces that were late.

use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::draw::spread;
use super::over_link::{self, any_link, hold};
use super::{Applied, Fault, PlannedFault, Sight, World};
use crate::fault::{Family, Kind, Link, Needs};
use crate::profile::Profile;
use crate::proxy::Control;
use crate::seed::Seed;
use crate::system::System;

pub(super) const KIND: Kind = Kind {
    name: "net.latency",
    family: Family::Network,
    about: "a link that is late, by up to 0.3 s each way",
    needs: Needs::LINKS,
    harm: over_link::HARM,
};

/// Least delay of a piece, in milliseconds.
const DELAY_MS_MIN: u64 = 10;
/// Greatest delay of a piece, in milliseconds: a claim takes several turns, and must come through.
const DELAY_MS_MAX: u64 = 200;
/// What a piece may be later than another, in milliseconds.
const JITTER_MS_MAX: u64 = 100;
/// Shortest time that a link is late, in milliseconds.
const FOR_MS_MIN: u64 = 300;
/// Longest time that a link is late, in milliseconds.
const FOR_MS_MAX: u64 = 2_000;

/// A link that is late for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// Which link.
    pub link: Link,
    /// Least delay of each piece, in milliseconds.
    pub delay_ms: u64,
    /// What is added at most, in milliseconds.
    pub jitter_ms: u64,
    /// How long, in milliseconds.
    pub for_ms: u64,
}

pub(super) fn draw(seed: Seed, profile: &Profile) -> Vec<PlannedFault> {
    spread(seed, profile, &KIND, |draws| {
        let latency = Latency {
            link: any_link(draws, profile),
            delay_ms: draws.random_range(DELAY_MS_MIN..=DELAY_MS_MAX),
            jitter_ms: draws.random_range(0..=JITTER_MS_MAX),
            for_ms: draws.random_range(FOR_MS_MIN..=FOR_MS_MAX),
        };
        (Sight::Time, Fault::Latency(latency))
    })
}

impl Latency {
    pub(super) async fn apply<S: System>(&self, world: &World<'_, S>, fault: u64) -> Applied {
        let control = Control::Late {
            delay_ms: self.delay_ms,
            jitter_ms: self.jitter_ms,
        };
        let (what, link) = ((fault, &KIND), (self.link, control));
        hold(world, what, link, self.for_ms).await
    }

    pub(super) fn heal<S>(&self, world: &World<'_, S>) -> Applied {
        world.links.heal(self.link);
        Ok(())
    }
}
