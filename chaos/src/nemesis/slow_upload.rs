//! Uploads that arrive one byte at a time, and in some faults one upload that never ends.
//!
//! Endangers: connections of the API, concurrent posts. A slow upload that ends is accepted like
//! any other. The dispatcher must end an upload that does not end, within the bound of its
//! contract. The fault lasts until then, and has no effect if the dispatcher never ends it.

use std::time::Duration;

use futures_util::future::join_all;
use rand::RngExt;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::client_event::{HARM, event, first_ordinal, key};
use super::strike::{Draw, Observed, Start, Strike};
use super::world::World;
use crate::fault::{Family, Kind, Needs, Target};
use crate::plan::{Condition, PlannedFault};
use crate::system::{System, SystemError};
use crate::workload::{Manner, Posted, Stop, Then};

/// Minimum number of uploads that end.
const UPLOADS_MIN: u32 = 4;
/// Maximum number of uploads that end.
const UPLOADS_MAX: u32 = 16;
/// Shortest pause after a byte, in milliseconds.
const PAUSE_MS_MIN: u64 = 1;
/// Longest pause after a byte, in milliseconds. A body of 70 bytes then takes about two seconds.
const PAUSE_MS_MAX: u64 = 30;
/// Of four faults, this number has an upload that never ends.
const ENDLESS_OF_4: u32 = 1;
/// How long the dispatcher waits for a body by its contract, in milliseconds.
const BODY_MS_MAX: u64 = 30_000;
/// How long the end of an endless upload may take beyond that, in milliseconds.
const SLACK_MS: u64 = 5_000;
/// How long a slow client waits for its response after the last byte, in milliseconds.
const PATIENCE_MS: u64 = 10_000;

/// Slow uploads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlowUpload {
    /// Ordinal of the first event. The others follow.
    pub ordinal: u64,
    /// The receiver that is their target, from 0.
    pub receiver: u32,
    /// Number of uploads that end.
    pub uploads: u32,
    /// The pause after each byte, in milliseconds.
    pub pause_ms: u64,
    /// True if one more upload stops in the middle and never ends.
    pub endless: bool,
}

impl Strike for SlowUpload {
    const KIND: Kind = Kind {
        name: "client.slow_upload",
        family: Family::Client,
        about: "uploads that come a byte at a time, or never to their end",
        needs: Needs::NOTHING,
        harm: HARM,
    };

    fn draw(draw: &Draw<'_>) -> Vec<PlannedFault<Self>> {
        let mut numbers = 0..;
        let mut faults = draw.spread(|draws| {
            let number = numbers.next().expect("the range has no end");
            let slow = Self {
                ordinal: first_ordinal(draw.kinds, &Self::KIND, number),
                receiver: draws.random_range(0..draw.profile.receivers),
                uploads: draws.random_range(UPLOADS_MIN..=UPLOADS_MAX),
                pause_ms: draws.random_range(PAUSE_MS_MIN..=PAUSE_MS_MAX),
                endless: draws.random_range(0..4) < ENDLESS_OF_4,
            };
            (Condition::Time, slow)
        });
        // Faults run one after the other. An endless upload within the storm would delay the others
        // until no request is open that they could hit.
        for planned in faults.iter_mut().filter(|planned| planned.fault.endless) {
            planned.trigger.at_ms = draw.profile.storm_ms;
        }
        faults
    }

    fn target(&self) -> Target {
        Target::Clients
    }

    fn events(&self) -> u64 {
        u64::from(self.uploads) + 1
    }

    async fn strike<S: System>(
        &self,
        world: &mut World<'_, S>,
        start: &Start,
    ) -> Result<Observed, SystemError> {
        let (ended, endless) = tokio::join!(self.finite(world), self.endless(world));
        let seen = match (ended, endless) {
            (Some(ended), Ok(endless)) => Some(format!("{ended}{endless}")),
            _ => None,
        };
        Ok(Observed::seen(start.at_us, seen))
    }

    async fn heal<S: System>(&self, _: &mut World<'_, S>) -> Result<(), SystemError> {
        // Clients end by themselves.
        Ok(())
    }
}

impl SlowUpload {
    async fn finite<S: System>(&self, world: &World<'_, S>) -> Option<String> {
        let manner = Manner { pause_ms: self.pause_ms, stop: None, patience_ms: PATIENCE_MS };
        let ordinals = self.ordinal..self.ordinal + u64::from(self.uploads);
        let upload = |ordinal| async move {
            let event = event(ordinal, self.receiver, Some(key(ordinal)));
            let posted = world.workload.upload(&event, manner).await;
            if posted != Posted::Accepted {
                world.workload.post_until_answered(&event).await;
            }
            posted
        };
        let ended = join_all(ordinals.map(upload)).await;
        let accepted = ended.iter().filter(|posted| **posted == Posted::Accepted);
        let (accepted, pause_ms) = (accepted.count(), self.pause_ms);
        let summary = format!("{accepted} uploads of one byte per {pause_ms} ms were accepted");
        (accepted > 0).then_some(summary)
    }

    /// Returns the end of the endless upload in words, and an error if the dispatcher did not end
    /// it.
    async fn endless<S: System>(&self, world: &World<'_, S>) -> Result<String, ()> {
        if !self.endless {
            return Ok(String::new());
        }
        let ordinal = self.ordinal + u64::from(self.uploads);
        let event = event(ordinal, self.receiver, None);
        let bound = Duration::from_millis(BODY_MS_MAX + SLACK_MS);
        let manner = Manner {
            pause_ms: self.pause_ms,
            stop: Some(Stop { at_percent: 50, then: Then::Nothing }),
            patience_ms: BODY_MS_MAX + SLACK_MS,
        };
        let began = Instant::now();
        let posted = world.workload.upload(&event, manner).await;
        let took = began.elapsed();
        // An API that could not be reached did not receive the upload.
        if took >= bound || posted == Posted::Unreachable {
            return Err(());
        }
        let seconds = took.as_secs();
        Ok(format!("; an endless upload was ended after {seconds} s"))
    }
}

#[cfg(test)]
mod tests {
    use crate::nemesis::{Fault, draw};
    use crate::profile::Profile;
    use crate::seed::Seed;

    // An endless upload takes 30 s. Kills that wait for it find no open request. A moved clock needs
    // none.
    #[test]
    fn only_a_moved_clock_follows_an_endless_upload() {
        let mut endless = 0;
        for number in 0..200 {
            let mut faults = draw(Seed::new(number), &Profile::everything());
            faults.retain(|planned| !matches!(planned.fault, Fault::ClockOffset(_)));
            let mut never_ends = faults
                .iter()
                .map(|planned| matches!(&planned.fault, Fault::SlowUpload(slow) if slow.endless));
            if let Some(at) = never_ends.position(|never_ends| never_ends) {
                endless += 1;
                assert_eq!(at + 1, faults.len(), "seed {number}");
            }
        }
        assert!((10..50).contains(&endless), "{endless} of 200 plans have one");
    }
}
