//! Many posts of one idempotency key at once over all APIs, some of them with other bytes.
//!
//! Endangers: one event for each key, the refusal of the others, every post behind them. The effect is
//! what the posts were told: one side has its id, the other was refused.

use futures_util::future::join_all;
use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::draw::spread;
use super::own_event::{self, Poster, own_event, own_key};
use super::{Applied, Fault, PlannedFault, Sight, World};
use crate::fault::{Family, Kind, Needs, Target};
use crate::profile::Profile;
use crate::schedule::PlannedEvent;
use crate::seed::Seed;
use crate::system::System;
use crate::workload::Posted;

pub(super) const KIND: Kind = Kind {
    name: "client.same_key",
    family: Family::Client,
    about: "many posts of one idempotency key at once, some with other bytes",
    needs: Needs::NOTHING,
    harm: own_event::HARM,
};

/// Posts at once at least.
const POSTS_MIN: u32 = 16;
/// Posts at once at most.
const POSTS_MAX: u32 = 64;
/// One post of this many has the other bytes.
const OTHER_ONE_IN: u32 = 4;

/// Posts under one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SameKey {
    /// The ordinal of the event; that of the other bytes is the next.
    pub ordinal: u64,
    /// Which receiver is the target of both.
    pub receiver: u32,
    /// How many posts there are in all.
    pub posts: u32,
}

pub(super) fn draw(seed: Seed, profile: &Profile) -> Vec<PlannedFault> {
    let mut numbers = 0..;
    spread(seed, profile, &KIND, |draws| {
        let number = numbers.next().expect("it has no end");
        let same_key = SameKey {
            ordinal: Poster::SameKey.first_ordinal(number),
            receiver: draws.random_range(0..profile.receivers),
            posts: draws.random_range(POSTS_MIN..=POSTS_MAX),
        };
        (Sight::Time, Fault::SameKey(same_key))
    })
}

impl SameKey {
    /// Events that it may add to those of the plan.
    pub(super) const fn events(&self) -> u64 {
        2
    }

    pub(super) async fn apply<S: System>(&self, world: &mut World<'_, S>, fault: u64) -> Applied {
        let begun = world.begin(fault, &KIND, Target::Clients);
        let [one, other] = [self.ordinal, self.ordinal + 1]
            .map(|ordinal| own_event(ordinal, self.receiver, Some(own_key(self.ordinal))));
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
        let observed = observed([&one, &other].map(|event| {
            let count = |posted| of(event, posted);
            (count(Posted::Accepted), count(Posted::Refused))
        }));
        // What nobody could say is made sure by a new post of its own.
        for event in [&one, &other] {
            world.workload.post_until_answered(event).await;
        }
        world.effect(&begun, begun.start_us, Vec::new(), observed);
        world.end(&begun);
        Ok(())
    }
}

/// What `(accepted, refused)` of either side tell: nothing, unless one of them was refused.
fn observed([one, other]: [(usize, usize); 2]) -> Option<String> {
    let accepted = one.0 + other.0;
    let refused = one.1 + other.1;
    let told = format!("{accepted} posts got an id, {refused} were refused for their other bytes");
    (accepted > 0 && refused > 0).then_some(told)
}
