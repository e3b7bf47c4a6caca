//! Uploads that are broken off inside of their body, at any byte, by a reset or by a close.
//!
//! Endangers: what is stored of half an event, the connections of the API. Some are broken off where
//! what came is an event by itself, and only the length that was announced tells that it is not whole.
//! Those with a key are then posted whole. The effect is the number of uploads that were broken off.

use futures_util::future::join_all;
use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::draw::spread;
use super::own_event::{self, Poster, own_event, own_key};
use super::{Applied, Fault, PlannedFault, Sight, World};
use crate::fault::{Family, Kind, Needs, Target};
use crate::profile::Profile;
use crate::seed::{Seed, Stream};
use crate::system::System;
use crate::workload::{Manner, Posted, Stop, Then};

pub(super) const KIND: Kind = Kind {
    name: "client.abort",
    family: Family::Client,
    about: "uploads broken off inside of their body, by a reset or a close",
    needs: Needs::NOTHING,
    harm: own_event::HARM,
};

/// Uploads at least.
const UPLOADS_MIN: usize = 6;
/// Uploads at most.
const UPLOADS_MAX: usize = 16;
/// Of four uploads, this many end where what came is an event by itself.
const WHOLE_BY_THEMSELVES_OF_4: u32 = 1;
/// How long a client that has closed waits for an answer, in milliseconds.
const PATIENCE_MS: u64 = 5_000;

/// Uploads that are broken off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AbortUpload {
    /// The ordinal of the first; the others follow.
    pub ordinal: u64,
    /// Which receiver is their target.
    pub receiver: u32,
    /// The uploads.
    pub uploads: Vec<Cut>,
}

/// One upload that is broken off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// How much of the event is sent, in percent; what was announced is always more.
    pub at_percent: u32,
    /// True for a reset, false for a close after which an answer is waited for.
    pub reset: bool,
    /// True when the event has a key, under which it is posted whole afterwards.
    pub keyed: bool,
}

pub(super) fn draw(seed: Seed, profile: &Profile) -> Vec<PlannedFault> {
    let mut numbers = 0..;
    spread(seed, profile, &KIND, |draws| {
        let number = numbers.next().expect("it has no end");
        let uploads = draws.random_range(UPLOADS_MIN..=UPLOADS_MAX);
        let abort = AbortUpload {
            ordinal: Poster::AbortUpload.first_ordinal(number),
            receiver: draws.random_range(0..profile.receivers),
            uploads: (0..uploads).map(|_| cut(draws)).collect(),
        };
        (Sight::Time, Fault::AbortUpload(abort))
    })
}

fn cut(draws: &mut Stream) -> Cut {
    let by_itself = draws.random_range(0..4) < WHOLE_BY_THEMSELVES_OF_4;
    let within = draws.random_range(0..100);
    Cut {
        at_percent: if by_itself { 100 } else { within },
        reset: draws.random_range(0..2) == 0,
        keyed: draws.random_range(0..2) == 0,
    }
}

impl Cut {
    fn manner(&self) -> Manner {
        let then = if self.reset { Then::Reset } else { Then::Close };
        Manner {
            pause_ms: 0,
            stop: Some(Stop {
                at_percent: self.at_percent,
                then,
            }),
            patience_ms: PATIENCE_MS,
        }
    }
}

impl AbortUpload {
    /// Events that it may add to those of the plan.
    pub(super) const fn events(&self) -> u64 {
        self.uploads.len() as u64
    }

    pub(super) async fn apply<S: System>(&self, world: &mut World<'_, S>, fault: u64) -> Applied {
        let begun = world.begin(fault, &KIND, Target::Clients);
        let events = (self.ordinal..).zip(&self.uploads).map(|(ordinal, cut)| {
            let key = cut.keyed.then(|| own_key(ordinal));
            (own_event(ordinal, self.receiver, key), cut)
        });
        let events: Vec<_> = events.collect();
        let uploads = events
            .iter()
            .map(|(event, cut)| world.workload.upload(event, cut.manner()));
        let ended = join_all(uploads).await;
        for (event, _) in events.iter().filter(|(event, _)| event.key.is_some()) {
            world.workload.post_until_answered(event).await;
        }
        let observed = observed(&ended);
        world.effect(&begun, begun.start_us, Vec::new(), observed);
        world.end(&begun);
        Ok(())
    }
}

fn observed(ended: &[Posted]) -> Option<String> {
    let count = |wanted| ended.iter().filter(|posted| **posted == wanted).count();
    let (broken, refused) = (count(Posted::Unknown), count(Posted::Refused));
    let told = format!("{broken} uploads ended without a word, {refused} were refused");
    (broken + refused > 0).then_some(told)
}
