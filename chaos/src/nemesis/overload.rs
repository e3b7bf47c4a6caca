//! A burst of posts far above the planned rate, by many concurrent clients.
//!
//! Endangers: acknowledgements, connections to the database, the delay of other events. Each event
//! has a key. A post without a definite response is repeated under it. The effect is the rate of
//! the burst.

use futures_util::StreamExt as _;
use futures_util::stream;
use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::client_event::{HARM, event, first_ordinal, key};
use super::strike::{Draw, Observed, Start, Strike};
use super::world::World;
use crate::fault::{Family, Kind, Needs, Target};
use crate::plan::{Condition, PlannedFault};
use crate::system::{System, SystemError};
use crate::workload::Posted;

/// Minimum number of events in a burst.
const EVENTS_MIN: u32 = 100;
/// Maximum number of events in a burst.
const EVENTS_MAX: u32 = 400;
/// Minimum number of clients in a burst.
const CLIENTS_MIN: u32 = 32;
/// Maximum number of clients in a burst.
const CLIENTS_MAX: u32 = 128;

/// A burst of posts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overload {
    /// Ordinal of the first event. The others follow.
    pub ordinal: u64,
    /// Number of receivers over which the events are spread.
    pub receivers: u32,
    /// Number of events.
    pub events: u32,
    /// Number of clients.
    pub clients: u32,
}

impl Strike for Overload {
    const KIND: Kind = Kind {
        name: "client.overload",
        family: Family::Client,
        about: "a burst of posts far above the pace, by many clients at once",
        needs: Needs::NOTHING,
        harm: HARM,
    };

    fn draw(draw: &Draw<'_>) -> Vec<PlannedFault<Self>> {
        let mut numbers = 0..;
        draw.spread(|draws| {
            let number = numbers.next().expect("the range has no end");
            let overload = Self {
                ordinal: first_ordinal(draw.kinds, &Self::KIND, number),
                receivers: draw.profile.receivers,
                events: draws.random_range(EVENTS_MIN..=EVENTS_MAX),
                clients: draws.random_range(CLIENTS_MIN..=CLIENTS_MAX),
            };
            (Condition::Time, overload)
        })
    }

    fn target(&self) -> Target {
        Target::Clients
    }

    fn events(&self) -> u64 {
        u64::from(self.events)
    }

    async fn strike<S: System>(
        &self,
        world: &mut World<'_, S>,
        start: &Start,
    ) -> Result<Observed, SystemError> {
        let events = (0..self.events).map(|number| {
            let ordinal = self.ordinal + u64::from(number);
            event(ordinal, number % self.receivers, Some(key(ordinal)))
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
        let took_ms = ((world.recorder.now_us() - start.at_us) / 1_000).max(1);
        let rate = u64::from(self.events) * 1_000 / took_ms;
        let seen = format!(
            "{} posts in {took_ms} ms, {rate} per second; {at_once} accepted by the first post",
            self.events
        );
        Ok(Observed::seen(start.at_us, (at_once > 0).then_some(seen)))
    }

    async fn heal<S: System>(&self, _: &mut World<'_, S>) -> Result<(), SystemError> {
        // Clients end by themselves.
        Ok(())
    }
}
