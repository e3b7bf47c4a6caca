//! Clients that stop waiting before their response arrives, and post again under the same key.
//!
//! Endangers: one event per key, the id of the second response, acknowledgements that no client
//! reads. A post without a key is not repeated and stays open. The effect is the number of clients
//! that stopped waiting.

use futures_util::future::join_all;
use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::client_event::{HARM, event, first_ordinal, key};
use super::strike::{Draw, Observed, Start, Strike};
use super::world::World;
use crate::fault::{Family, Kind, Needs, Target};
use crate::plan::{Condition, PlannedFault};
use crate::system::{System, SystemError};
use crate::workload::{Manner, Posted};

/// Minimum number of posts.
const POSTS_MIN: usize = 8;
/// Maximum number of posts.
const POSTS_MAX: usize = 32;
/// Longest wait for a response, in milliseconds. A commit takes about this time.
const PATIENCE_MS_MAX: u64 = 12;
/// Of four posts, this number has no key.
const KEYLESS_OF_4: u32 = 1;

/// Posts whose clients stop waiting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GiveUp {
    /// Ordinal of the first event. The others follow.
    pub ordinal: u64,
    /// The receiver that is their target, from 0.
    pub receiver: u32,
    /// The posts.
    pub posts: Vec<Hasty>,
}

/// One post whose client stops waiting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hasty {
    /// How long the client waits for the response, in milliseconds.
    pub patience_ms: u64,
    /// True if the event has a key, under which it is posted again.
    pub keyed: bool,
}

impl Strike for GiveUp {
    const KIND: Kind = Kind {
        name: "client.give_up",
        family: Family::Client,
        about: "posts given up before their answer, then posted again under their key",
        needs: Needs::NOTHING,
        harm: HARM,
    };

    fn draw(draw: &Draw<'_>) -> Vec<PlannedFault<Self>> {
        let mut numbers = 0..;
        draw.spread(|draws| {
            let number = numbers.next().expect("the range has no end");
            let posts = draws.random_range(POSTS_MIN..=POSTS_MAX);
            let give_up = Self {
                ordinal: first_ordinal(draw.kinds, &Self::KIND, number),
                receiver: draws.random_range(0..draw.profile.receivers),
                posts: (0..posts)
                    .map(|_| Hasty {
                        patience_ms: draws.random_range(0..=PATIENCE_MS_MAX),
                        keyed: draws.random_range(0..4) >= KEYLESS_OF_4,
                    })
                    .collect(),
            };
            (Condition::Time, give_up)
        })
    }

    fn target(&self) -> Target {
        Target::Clients
    }

    fn events(&self) -> u64 {
        self.posts.len() as u64
    }

    async fn strike<S: System>(
        &self,
        world: &mut World<'_, S>,
        start: &Start,
    ) -> Result<Observed, SystemError> {
        let workload = world.workload;
        let posts = (self.ordinal..).zip(&self.posts);
        let posts = posts.map(|(ordinal, hasty)| async move {
            let key = hasty.keyed.then(|| key(ordinal));
            let event = event(ordinal, self.receiver, key);
            let manner = Manner { pause_ms: 0, stop: None, patience_ms: hasty.patience_ms };
            let posted = workload.upload(&event, manner).await;
            if posted != Posted::Accepted && hasty.keyed {
                workload.post_until_answered(&event).await;
            }
            posted
        });
        let ended = join_all(posts).await;
        let given_up = ended.iter().filter(|posted| **posted == Posted::Unknown);
        let (given_up, posts) = (given_up.count(), self.posts.len());
        let seen = format!("{given_up} of {posts} posts were given up before their answer");
        Ok(Observed::seen(start.at_us, (given_up > 0).then_some(seen)))
    }

    async fn heal<S: System>(&self, _: &mut World<'_, S>) -> Result<(), SystemError> {
        // Clients end by themselves.
        Ok(())
    }
}
