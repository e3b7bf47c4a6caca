//! A target whose name has two addresses, the first of which does not answer.
//!
//! Endangers: attempts that spend their deadline on the first address. The dispatcher must try the
//! second address in time. The fault posts events to such a target, and its declared harm excuses
//! no failed attempt of them. The effect is that the receiver on the second address got them.

use futures_util::future::join_all;
use rand::RngExt;
use serde::{Deserialize, Serialize};
use tokio::time::timeout_at;

use super::client_event::{HARM, event, first_ordinal, key};
use super::outage::over_in;
use super::strike::{Draw, Observed, Start, Strike};
use super::world::World;
use crate::fault::{Family, Kind, Needs, Target};
use crate::plan::{Condition, PlannedFault};
use crate::profile::Profile;
use crate::system::{System, SystemError};

/// Fewest events. The dispatcher may begin with either address, so that one event shows nothing.
const EVENTS_MIN: u32 = 8;
/// Most events.
const EVENTS_MAX: u32 = 16;
/// How long the fault waits for the events to arrive, in milliseconds.
const ARRIVAL_MS_MAX: u64 = 10_000;

/// The number of the receiver whose name has two addresses. The number before it is the one of the
/// section at default settings.
#[must_use]
pub fn receiver_of_pair(profile: &Profile) -> u32 {
    profile.receivers + 1
}

/// A dead first address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadAddress {
    /// Ordinal of the first event. The others follow.
    pub ordinal: u64,
    /// The receiver with two addresses.
    pub receiver: u32,
    /// Number of events that are posted while the address is dead.
    pub events: u32,
}

impl Strike for DeadAddress {
    const KIND: Kind = Kind {
        name: "receiver.dead_address",
        family: Family::Receiver,
        about: "a name with two addresses, of which the first drops connections",
        needs: Needs::HOSTS,
        harm: HARM,
    };

    fn draw(draw: &Draw<'_>) -> Vec<PlannedFault<Self>> {
        let mut numbers = 0..;
        draw.spread(|draws| {
            let number = numbers.next().expect("the range has no end");
            let dead = Self {
                ordinal: first_ordinal(draw.kinds, &Self::KIND, number),
                receiver: receiver_of_pair(draw.profile),
                events: draws.random_range(EVENTS_MIN..=EVENTS_MAX),
            };
            (Condition::Time, dead)
        })
    }

    fn target(&self) -> Target {
        Target::Receiver(self.receiver)
    }

    fn events(&self) -> u64 {
        u64::from(self.events)
    }

    async fn strike<S: System>(
        &self,
        world: &mut World<'_, S>,
        _: &Start,
    ) -> Result<Observed, SystemError> {
        let silence = world.pair()?.silence_first().await;
        let silence = silence.map_err(|source| SystemError::Os {
            doing: "filling an accept queue".to_owned(),
            source,
        })?;
        let effective_us = world.recorder.now_us();
        let ordinals = self.ordinal..self.ordinal + self.events();
        let events: Vec<_> = ordinals
            .clone()
            .map(|ordinal| event(ordinal, self.receiver, Some(key(ordinal))))
            .collect();
        join_all(events.iter().map(|event| world.workload.post_until_answered(event))).await;
        let mut changed = world.recorder.changed();
        let until = over_in(ARRIVAL_MS_MAX);
        let arrived = || {
            let arrived = ordinals.clone().filter(|ordinal| world.recorder.is_received(*ordinal));
            arrived.count()
        };
        while arrived() < events.len() && timeout_at(until, changed.changed()).await.is_ok() {}
        drop(silence);
        let (arrived, all) = (arrived(), events.len());
        let seen = format!("{arrived} of {all} events arrived at the second address");
        Ok(Observed::seen(effective_us, (arrived == all).then_some(seen)))
    }

    async fn heal<S: System>(&self, _: &mut World<'_, S>) -> Result<(), SystemError> {
        // The address refuses connections since the end of the strike.
        Ok(())
    }
}
