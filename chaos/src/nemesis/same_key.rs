//! Many concurrent posts under one idempotency key over all APIs, some of them with other bytes.
//!
//! Endangers: one event per key, the refusal of other bytes, posts that queue behind. The effect is
//! that posts of one payload got its id and posts of the other payload were refused.

use futures_util::future::join_all;
use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::client_event::{HARM, event, first_ordinal, key};
use super::strike::{Draw, Observed, Start, Strike};
use super::world::World;
use crate::fault::{Family, Kind, Needs, Target};
use crate::plan::{Condition, PlannedEvent, PlannedFault};
use crate::system::{System, SystemError};
use crate::workload::Posted;

/// Minimum number of concurrent posts.
const POSTS_MIN: u32 = 16;
/// Maximum number of concurrent posts.
const POSTS_MAX: u32 = 64;
/// One post in this number has the other bytes.
const OTHER_ONE_IN: u32 = 4;

/// Posts under one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SameKey {
    /// Ordinal of the event. The event with the other bytes has the next ordinal.
    pub ordinal: u64,
    /// The receiver that is the target of both, from 0.
    pub receiver: u32,
    /// Number of posts in total.
    pub posts: u32,
}

impl Strike for SameKey {
    const KIND: Kind = Kind {
        name: "client.same_key",
        family: Family::Client,
        about: "many posts of one idempotency key at once, some with other bytes",
        needs: Needs::NOTHING,
        harm: HARM,
    };

    fn draw(draw: &Draw<'_>) -> Vec<PlannedFault<Self>> {
        let mut numbers = 0..;
        draw.spread(|draws| {
            let number = numbers.next().expect("the range has no end");
            let same_key = Self {
                ordinal: first_ordinal(draw.kinds, &Self::KIND, number),
                receiver: draws.random_range(0..draw.profile.receivers),
                posts: draws.random_range(POSTS_MIN..=POSTS_MAX),
            };
            (Condition::Time, same_key)
        })
    }

    fn target(&self) -> Target {
        Target::Clients
    }

    fn events(&self) -> u64 {
        2
    }

    async fn strike<S: System>(
        &self,
        world: &mut World<'_, S>,
        start: &Start,
    ) -> Result<Observed, SystemError> {
        let [one, other] = [self.ordinal, self.ordinal + 1]
            .map(|ordinal| event(ordinal, self.receiver, Some(key(self.ordinal))));
        let is_other = |number: &u32| number.is_multiple_of(OTHER_ONE_IN);
        let posts = (1..=self.posts).map(|number| {
            let event = if is_other(&number) { &other } else { &one };
            world.workload.post(event)
        });
        let ended = join_all(posts).await;
        let of = |event: &PlannedEvent, posted| {
            let numbers = (1..=self.posts).zip(&ended);
            let mine = numbers.filter(|(number, _)| is_other(number) == (event == &other));
            mine.filter(|(_, ended)| **ended == posted).count()
        };
        let counts = [&one, &other].map(|event| Counts {
            accepted: of(event, Posted::Accepted),
            refused: of(event, Posted::Refused),
        });
        // A new post of each payload settles the posts with unknown outcome.
        for event in [&one, &other] {
            world.workload.post_until_answered(event).await;
        }
        Ok(Observed::seen(start.at_us, summary(&counts)))
    }

    async fn heal<S: System>(&self, _: &mut World<'_, S>) -> Result<(), SystemError> {
        // Clients end by themselves.
        Ok(())
    }
}

/// Responses to the posts of one payload.
struct Counts {
    accepted: usize,
    refused: usize,
}

/// Returns nothing unless posts were accepted and others refused.
fn summary([one, other]: &[Counts; 2]) -> Option<String> {
    let accepted = one.accepted + other.accepted;
    let refused = one.refused + other.refused;
    let summary =
        format!("{accepted} posts got an id, {refused} were refused for their other bytes");
    (accepted > 0 && refused > 0).then_some(summary)
}
