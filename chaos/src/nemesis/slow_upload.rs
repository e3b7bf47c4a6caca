//! Uploads that come a byte at a time; and now and then one that never comes to its end.
//!
//! Endangers: the connections of the API, the posts beside them. A slow upload that ends is accepted like
//! any other. One that does not is ended by the dispatcher within the bound of its contract; then the
//! fault lasts that long, and has no effect if the dispatcher never ends it.

use std::time::Duration;

use futures_util::future::join_all;
use rand::RngExt;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::draw::spread;
use super::own_event::{self, Poster, own_event, own_key};
use super::{Applied, Fault, PlannedFault, Sight, World};
use crate::fault::{Family, Kind, Needs, Target};
use crate::profile::Profile;
use crate::seed::Seed;
use crate::system::System;
use crate::workload::{Manner, Posted, Stop, Then};

pub(super) const KIND: Kind = Kind {
    name: "client.slow_upload",
    family: Family::Client,
    about: "uploads that come a byte at a time, or never to their end",
    needs: Needs::NOTHING,
    harm: own_event::HARM,
};

/// Uploads at least.
const UPLOADS_MIN: u32 = 4;
/// Uploads at most.
const UPLOADS_MAX: u32 = 16;
/// Shortest pause after a byte, in milliseconds.
const PAUSE_MS_MIN: u64 = 1;
/// Longest pause after a byte, in milliseconds: a body of some 70 bytes takes two seconds.
const PAUSE_MS_MAX: u64 = 30;
/// Of four faults, this many have an upload that never ends.
const ENDLESS_OF_4: u32 = 1;
/// How long the dispatcher may wait for a body, by its contract, in milliseconds.
const BODY_MS_MAX: u64 = 30_000;
/// What the end of an endless upload may take beyond that bound, in milliseconds.
const SLACK_MS: u64 = 5_000;
/// How long a slow client waits for its answer after the last byte, in milliseconds.
const PATIENCE_MS: u64 = 10_000;

/// Uploads a byte at a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlowUpload {
    /// The ordinal of the first; the others follow.
    pub ordinal: u64,
    /// Which receiver is their target.
    pub receiver: u32,
    /// How many there are that end.
    pub uploads: u32,
    /// The pause after each byte, in milliseconds.
    pub pause_ms: u64,
    /// True when one more stops in its middle and never ends.
    pub endless: bool,
}

pub(super) fn draw(seed: Seed, profile: &Profile) -> Vec<PlannedFault> {
    let mut numbers = 0..;
    let mut faults = spread(seed, profile, &KIND, |draws| {
        let number = numbers.next().expect("it has no end");
        let slow = SlowUpload {
            ordinal: Poster::SlowUpload.first_ordinal(number),
            receiver: draws.random_range(0..profile.receivers),
            uploads: draws.random_range(UPLOADS_MIN..=UPLOADS_MAX),
            pause_ms: draws.random_range(PAUSE_MS_MIN..=PAUSE_MS_MAX),
            endless: draws.random_range(0..4) < ENDLESS_OF_4,
        };
        (Sight::Time, Fault::SlowUpload(slow))
    });
    // Faults come one after the other: within the storm this one would keep the others until there is
    // nobody left to hit.
    for planned in &mut faults {
        if matches!(&planned.fault, Fault::SlowUpload(slow) if slow.endless) {
            planned.trigger.at_ms = profile.storm_ms;
        }
    }
    faults
}

impl SlowUpload {
    /// Events that it may add to those of the plan.
    pub(super) const fn events(&self) -> u64 {
        self.uploads as u64 + 1
    }

    pub(super) async fn apply<S: System>(&self, world: &mut World<'_, S>, fault: u64) -> Applied {
        let begun = world.begin(fault, &KIND, Target::Clients);
        let (ended, endless) = tokio::join!(self.that_end(world), self.endless(world));
        let observed = match (ended, endless) {
            (Some(ended), Ok(endless)) => Some(format!("{ended}{endless}")),
            _ => None,
        };
        world.effect(&begun, begun.start_us, Vec::new(), observed);
        world.end(&begun);
        Ok(())
    }

    async fn that_end<S: System>(&self, world: &World<'_, S>) -> Option<String> {
        let manner = Manner {
            pause_ms: self.pause_ms,
            stop: None,
            patience_ms: PATIENCE_MS,
        };
        let ordinals = self.ordinal..self.ordinal + u64::from(self.uploads);
        let upload = |ordinal| async move {
            let event = own_event(ordinal, self.receiver, Some(own_key(ordinal)));
            let posted = world.workload.upload(&event, manner).await;
            if posted != Posted::Accepted {
                world.workload.post_until_answered(&event).await;
            }
            posted
        };
        let ended = join_all(ordinals.map(upload)).await;
        let accepted = ended.iter().filter(|posted| **posted == Posted::Accepted);
        let (accepted, pause_ms) = (accepted.count(), self.pause_ms);
        let told = format!("{accepted} uploads of a byte each {pause_ms} ms were accepted");
        (accepted > 0).then_some(told)
    }

    /// What became of the upload that never ends, if there is one.
    async fn endless<S: System>(&self, world: &World<'_, S>) -> Result<String, ()> {
        if !self.endless {
            return Ok(String::new());
        }
        let ordinal = self.ordinal + u64::from(self.uploads);
        let event = own_event(ordinal, self.receiver, None);
        let bound = Duration::from_millis(BODY_MS_MAX + SLACK_MS);
        let manner = Manner {
            pause_ms: self.pause_ms,
            stop: Some(Stop {
                at_percent: 50,
                then: Then::Nothing,
            }),
            patience_ms: BODY_MS_MAX + SLACK_MS,
        };
        let began = Instant::now();
        let posted = world.workload.upload(&event, manner).await;
        let took = began.elapsed();
        // An API that could not be reached has not been tried.
        if took >= bound || posted == Posted::Unreachable {
            return Err(());
        }
        let seconds = took.as_secs();
        Ok(format!("; one that never ends was ended after {seconds} s"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_fault_of_a_plan_waits_for_the_end_of_an_upload_that_has_none() {
        let mut endless = 0;
        for number in 0..200 {
            let faults = PlannedFault::draw_all(Seed::new(number), &Profile::everything());
            let mut never_ends = faults
                .iter()
                .map(|planned| matches!(&planned.fault, Fault::SlowUpload(slow) if slow.endless));
            if let Some(at) = never_ends.position(|never_ends| never_ends) {
                endless += 1;
                assert_eq!(at + 1, faults.len(), "seed {number}");
            }
        }
        assert!(
            (10..50).contains(&endless),
            "{endless} of 200 plans have one"
        );
    }
}
