//! A burst of posts far above the pace of the plan, by many clients at once.
//!
//! Endangers: acknowledgements, the database's connections, the turn of everybody else. Each has a key: one
//! that ends without a definite answer is posted again under it. The effect is the rate.

use futures_util::StreamExt as _;
use futures_util::stream;
use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::draw::spread;
use super::own_event::{self, Poster, own_event, own_key};
use super::{Applied, Fault, PlannedFault, Sight, World};
use crate::fault::{Family, Kind, Needs, Target};
use crate::profile::Profile;
use crate::seed::Seed;
use crate::system::System;
use crate::workload::Posted;

pub(super) const KIND: Kind = Kind {
    name: "client.overload",
    family: Family::Client,
    about: "a burst of posts far above the pace, by many clients at once",
    needs: Needs::NOTHING,
    harm: own_event::HARM,
};

/// Events of a burst at least.
const EVENTS_MIN: u32 = 100;
/// Events of a burst at most.
const EVENTS_MAX: u32 = 400;
/// Clients of a burst at least.
const CLIENTS_MIN: u32 = 32;
/// Clients of a burst at most.
const CLIENTS_MAX: u32 = 128;

/// A burst.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overload {
    /// The ordinal of the first event; the others follow.
    pub ordinal: u64,
    /// Over how many receivers the events are spread.
    pub receivers: u32,
    /// How many events there are.
    pub events: u32,
    /// How many clients post them.
    pub clients: u32,
}

pub(super) fn draw(seed: Seed, profile: &Profile) -> Vec<PlannedFault> {
    let mut numbers = 0..;
    spread(seed, profile, &KIND, |draws| {
        let number = numbers.next().expect("it has no end");
        let overload = Overload {
            ordinal: Poster::Overload.first_ordinal(number),
            receivers: profile.receivers,
            events: draws.random_range(EVENTS_MIN..=EVENTS_MAX),
            clients: draws.random_range(CLIENTS_MIN..=CLIENTS_MAX),
        };
        (Sight::Time, Fault::Overload(overload))
    })
}

impl Overload {
    /// Events that it may add to those of the plan.
    pub(super) const fn events(&self) -> u64 {
        self.events as u64
    }

    pub(super) async fn apply<S: System>(&self, world: &mut World<'_, S>, fault: u64) -> Applied {
        let begun = world.begin(fault, &KIND, Target::Clients);
        let events = (0..self.events).map(|number| {
            let ordinal = self.ordinal + u64::from(number);
            own_event(ordinal, number % self.receivers, Some(own_key(ordinal)))
        });
        let workload = world.workload;
        let posts = events.map(|event| async move {
            let posted = workload.post(&event).await;
            if posted != Posted::Accepted {
                workload.post_until_answered(&event).await;
            }
            posted
        });
        let posts = stream::iter(posts).buffer_unordered(self.clients as usize);
        let at_once = posts.filter(|posted| std::future::ready(*posted == Posted::Accepted));
        let at_once = at_once.count().await;
        let took_ms = ((world.recorder.now_us() - begun.start_us) / 1_000).max(1);
        let rate = u64::from(self.events) * 1_000 / took_ms;
        let told = format!(
            "{} posts in {took_ms} ms, {rate} a second; {at_once} were accepted at once",
            self.events
        );
        let observed = (at_once > 0).then_some(told);
        world.effect(&begun, begun.start_us, Vec::new(), observed);
        world.end(&begun);
        Ok(())
    }
}
