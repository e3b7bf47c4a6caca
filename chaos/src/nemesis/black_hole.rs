//! A link that swallows everything and says nothing, not even that an end was reached.
//!
//! Endangers: fencing, lease exclusion, duplicates, liveness. On the way to the database it lasts in
//! half of all cases for longer than a lease; and the server may have given the worker up meanwhile,
//! so that its presence ends while it lives. The effect is the bytes that were swallowed.

use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::draw::spread;
use super::over_link::{self, any_link, hold};
use super::{Applied, BEYOND_LEASE_MS_MAX, Fault, PlannedFault, Sight, World};
use crate::fault::{Family, Kind, Link, Needs};
use crate::profile::Profile;
use crate::proxy::Control;
use crate::seed::Seed;
use crate::system::System;

pub(super) const KIND: Kind = Kind {
    name: "net.black_hole",
    family: Family::Network,
    about: "a link that swallows everything; that to the database at times for longer than a lease",
    needs: Needs::LINKS,
    harm: over_link::HARM,
};

/// Shortest black hole, in milliseconds.
const FOR_MS_MIN: u64 = 300;
/// Longest black hole that is no longer than a lease, in milliseconds.
const FOR_MS_MAX: u64 = 1_500;

/// A black hole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlackHole {
    /// Which link.
    pub link: Link,
    /// How long, in milliseconds.
    pub for_ms: u64,
    /// True when the accepting side learns at once that its connections are over, and only the other
    /// goes on believing in them.
    pub half_open: bool,
}

pub(super) fn draw(seed: Seed, profile: &Profile) -> Vec<PlannedFault> {
    spread(seed, profile, &KIND, |draws| {
        let link = any_link(draws, profile);
        let short_ms = draws.random_range(FOR_MS_MIN..=FOR_MS_MAX);
        let beyond_ms = draws.random_range(0..=BEYOND_LEASE_MS_MAX);
        let outlives = draws.random_range(0..2) == 0 && matches!(link, Link::ToPostgres(_));
        let black_hole = BlackHole {
            for_ms: if outlives {
                profile.settings.lease_ms + beyond_ms
            } else {
                short_ms
            },
            half_open: draws.random_range(0..2) == 0,
            link,
        };
        (Sight::Time, Fault::BlackHole(black_hole))
    })
}

impl BlackHole {
    pub(super) async fn apply<S: System>(&self, world: &World<'_, S>, fault: u64) -> Applied {
        let control = if self.half_open {
            Control::HalfOpen
        } else {
            Control::BlackHole
        };
        let (what, link) = ((fault, &KIND), (self.link, control));
        hold(world, what, link, self.for_ms).await
    }

    pub(super) fn heal<S>(&self, world: &World<'_, S>) -> Applied {
        world.links.heal(self.link);
        Ok(())
    }
}
