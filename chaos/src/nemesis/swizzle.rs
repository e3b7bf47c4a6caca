//! Several links that are cut one by one and healed one by one, in another order.
//!
//! Endangers: liveness, lease exclusion, duplicates: parts that cannot all see each other. The effect
//! is what each cut was seen to do.

use std::time::Duration;

use rand::RngExt;
use rand::seq::SliceRandom as _;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::draw::spread;
use super::over_link::{self, all_links, told, untouched};
use super::{Applied, Fault, PlannedFault, Sight, World};
use crate::fault::{Family, Kind, Link, Needs, Target};
use crate::profile::Profile;
use crate::proxy::Control;
use crate::seed::Seed;
use crate::system::System;

pub(super) const KIND: Kind = Kind {
    name: "net.swizzle",
    family: Family::Network,
    about: "links that are cut one by one and healed in another order",
    needs: Needs::LINKS,
    harm: over_link::HARM,
};

/// Links that are cut at least.
const LINKS_MIN: usize = 2;
/// Links that are cut at most.
const LINKS_MAX: usize = 4;
/// Longest wait between two steps, in milliseconds.
const STEP_MS_MAX: u64 = 500;

/// One link of a swizzle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// Which link.
    pub link: Link,
    /// True when it swallows what comes; else it resets and refuses.
    pub swallows: bool,
}

/// Cuts and heals.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swizzle {
    /// In this order they are cut.
    pub cuts: Vec<Cut>,
    /// In this order they are healed.
    pub heals: Vec<Link>,
    /// The wait after each step, in milliseconds.
    pub steps_ms: Vec<u64>,
}

pub(super) fn draw(seed: Seed, profile: &Profile) -> Vec<PlannedFault> {
    spread(seed, profile, &KIND, |draws| {
        let mut links = all_links(profile);
        links.shuffle(draws);
        links.truncate(draws.random_range(LINKS_MIN..=LINKS_MAX));
        let mut heals = links.clone();
        heals.shuffle(draws);
        let steps_ms = (0..2 * links.len()).map(|_| draws.random_range(0..=STEP_MS_MAX));
        let swizzle = Swizzle {
            steps_ms: steps_ms.collect(),
            cuts: links
                .into_iter()
                .map(|link| Cut {
                    link,
                    swallows: draws.random_range(0..2) == 0,
                })
                .collect(),
            heals,
        };
        (Sight::Time, Fault::Swizzle(swizzle))
    })
}

impl Swizzle {
    pub(super) async fn apply<S: System>(&self, world: &World<'_, S>, fault: u64) -> Applied {
        let links: Vec<Link> = self.cuts.iter().map(|cut| cut.link).collect();
        for link in &links {
            world.link(*link)?;
        }
        let target = Target::Links(links);
        let on = target.to_string();
        let begun = world.begin(fault, &KIND, target);
        let mut steps = self.steps_ms.iter().copied().map(Duration::from_millis);
        let mut step = || sleep(steps.next().unwrap_or_default());
        for cut in &self.cuts {
            let control = if cut.swallows {
                Control::BlackHole
            } else {
                Control::Refuse
            };
            world.link(cut.link)?.set(control);
            step().await;
        }
        let effective_us = world.recorder.now_us();
        let mut seen = Vec::new();
        for link in &self.heals {
            let proxy = world.link(*link)?;
            step().await;
            seen.extend(told(&proxy.effects()).map(|told| format!("{link} {told}")));
            proxy.set(Control::Pass);
        }
        if seen.is_empty() {
            return Err(untouched("links", &on));
        }
        world.effect(&begun, effective_us, Vec::new(), Some(seen.join("; ")));
        world.end(&begun);
        Ok(())
    }

    pub(super) fn heal<S>(&self, world: &World<'_, S>) -> Applied {
        for cut in &self.cuts {
            world.links.heal(cut.link);
        }
        Ok(())
    }
}
