//! Swizzle: several links are cut one after the other and restored in another order.
//!
//! Endangers: liveness, lease exclusion, duplicates, because some parts reach each other and others
//! do not. The effect is the effect of each cut.

use std::time::Duration;

use rand::RngExt;
use rand::seq::SliceRandom as _;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::over_link::{HARM, all_links, summary, untouched};
use super::strike::{Draw, Observed, Start, Strike};
use super::world::World;
use crate::fault::{Family, Kind, Link, Needs, Target};
use crate::plan::{Condition, PlannedFault};
use crate::proxy::Control;
use crate::system::{System, SystemError};

/// Minimum number of links that are cut.
const LINKS_MIN: usize = 2;
/// Maximum number of links that are cut.
const LINKS_MAX: usize = 4;
/// Longest wait between two steps, in milliseconds.
const STEP_MS_MAX: u64 = 500;

/// The cut of one link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// The link.
    pub link: Link,
    /// True if the link swallows bytes. False if it resets connections and refuses new ones.
    pub swallows: bool,
}

/// Cuts and heals of several links.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swizzle {
    /// The cuts, in their order.
    pub cuts: Vec<Cut>,
    /// The same links, in the order of their heals.
    pub heals: Vec<Link>,
    /// The wait after each step, in milliseconds.
    pub steps_ms: Vec<u64>,
}

impl Strike for Swizzle {
    const KIND: Kind = Kind {
        name: "net.swizzle",
        family: Family::Network,
        about: "links that are cut one by one and healed in another order",
        needs: Needs::LINKS,
        harm: HARM,
    };

    fn draw(draw: &Draw<'_>) -> Vec<PlannedFault<Self>> {
        draw.spread(|draws| {
            let mut links = all_links(draw.profile);
            links.shuffle(draws);
            links.truncate(draws.random_range(LINKS_MIN..=LINKS_MAX));
            let mut heals = links.clone();
            heals.shuffle(draws);
            let steps_ms = (0..2 * links.len()).map(|_| draws.random_range(0..=STEP_MS_MAX));
            let swizzle = Self {
                steps_ms: steps_ms.collect(),
                cuts: links
                    .into_iter()
                    .map(|link| Cut { link, swallows: draws.random_range(0..2) == 0 })
                    .collect(),
                heals,
            };
            (Condition::Time, swizzle)
        })
    }

    fn target(&self) -> Target {
        Target::Links(self.cuts.iter().map(|cut| cut.link).collect())
    }

    async fn strike<S: System>(
        &self,
        world: &mut World<'_, S>,
        _: &Start,
    ) -> Result<Observed, SystemError> {
        let mut steps = self.steps_ms.iter().copied().map(Duration::from_millis);
        let mut step = || sleep(steps.next().unwrap_or_default());
        for cut in &self.cuts {
            let control = if cut.swallows { Control::BlackHole } else { Control::Refuse };
            world.link(cut.link)?.set(control);
            step().await;
        }
        let effective_us = world.recorder.now_us();
        let mut effects = Vec::new();
        for link in &self.heals {
            let proxy = world.link(*link)?;
            step().await;
            effects.extend(summary(&proxy.effects()).map(|effect| format!("{link} {effect}")));
            proxy.set(Control::Pass);
        }
        if effects.is_empty() {
            return Err(untouched("links", &self.target().to_string()));
        }
        Ok(Observed::seen(effective_us, Some(effects.join("; "))))
    }

    async fn heal<S: System>(&self, world: &mut World<'_, S>) -> Result<(), SystemError> {
        for cut in &self.cuts {
            world.links.heal(cut.link);
        }
        Ok(())
    }
}
