//! Clients that give up before their answer comes, and post again under the same key.
//!
//! Endangers: one event for each key, the id of the second answer, the acknowledgement of what nobody
//! waited for. One without a key is never posted again and stays open. The effect is how many gave up.

use futures_util::future::join_all;
use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::draw::spread;
use super::own_event::{self, Poster, own_event, own_key};
use super::{Applied, Fault, PlannedFault, Sight, World};
use crate::fault::{Family, Kind, Needs, Target};
use crate::profile::Profile;
use crate::seed::Seed;
use crate::system::System;
use crate::workload::{Manner, Posted};

pub(super) const KIND: Kind = Kind {
    name: "client.give_up",
    family: Family::Client,
    about: "posts given up before their answer, then posted again under their key",
    needs: Needs::NOTHING,
    harm: own_event::HARM,
};

/// Posts at least.
const POSTS_MIN: usize = 8;
/// Posts at most.
const POSTS_MAX: usize = 32;
/// Longest time that an answer is waited for, in milliseconds: a commit takes about as long.
const PATIENCE_MS_MAX: u64 = 12;
/// Of four posts, this many have no key.
const KEYLESS_OF_4: u32 = 1;

/// Posts that are given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GiveUp {
    /// The ordinal of the first; the others follow.
    pub ordinal: u64,
    /// Which receiver is their target.
    pub receiver: u32,
    /// The posts.
    pub posts: Vec<Hasty>,
}

/// One post that is given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hasty {
    /// How long its answer is waited for, in milliseconds.
    pub patience_ms: u64,
    /// True when it has a key, under which it is posted again.
    pub keyed: bool,
}

pub(super) fn draw(seed: Seed, profile: &Profile) -> Vec<PlannedFault> {
    let mut numbers = 0..;
    spread(seed, profile, &KIND, |draws| {
        let number = numbers.next().expect("it has no end");
        let posts = draws.random_range(POSTS_MIN..=POSTS_MAX);
        let give_up = GiveUp {
            ordinal: Poster::GiveUp.first_ordinal(number),
            receiver: draws.random_range(0..profile.receivers),
            posts: (0..posts)
                .map(|_| Hasty {
                    patience_ms: draws.random_range(0..=PATIENCE_MS_MAX),
                    keyed: draws.random_range(0..4) >= KEYLESS_OF_4,
                })
                .collect(),
        };
        (Sight::Time, Fault::GiveUp(give_up))
    })
}

impl GiveUp {
    /// Events that it may add to those of the plan.
    pub(super) const fn events(&self) -> u64 {
        self.posts.len() as u64
    }

    pub(super) async fn apply<S: System>(&self, world: &mut World<'_, S>, fault: u64) -> Applied {
        let begun = world.begin(fault, &KIND, Target::Clients);
        let workload = world.workload;
        let posts = (self.ordinal..).zip(&self.posts);
        let posts = posts.map(|(ordinal, hasty)| async move {
            let event = own_event(
                ordinal,
                self.receiver,
                hasty.keyed.then(|| own_key(ordinal)),
            );
            let manner = Manner {
                pause_ms: 0,
                stop: None,
                patience_ms: hasty.patience_ms,
            };
            let posted = workload.upload(&event, manner).await;
            if posted != Posted::Accepted && hasty.keyed {
                workload.post_until_answered(&event).await;
            }
            posted
        });
        let ended = join_all(posts).await;
        let given_up = ended.iter().filter(|posted| **posted == Posted::Unknown);
        let (given_up, posts) = (given_up.count(), self.posts.len());
        let told = format!("{given_up} of {posts} posts were given up before their answer");
        let observed = (given_up > 0).then_some(told);
        world.effect(&begun, begun.start_us, Vec::new(), observed);
        world.end(&begun);
        Ok(())
    }
}
