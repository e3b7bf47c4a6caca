//! Uploads that are aborted inside their body, at any byte, by a reset or a close.
//!
//! Endangers: partial events in the store, connections of the API. Some uploads are aborted where
//! the sent part is a valid event, and only the announced length shows that it is incomplete.
//! Events with a key are posted in full afterwards. The effect is the number of aborted uploads.

use futures_util::future::join_all;
use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::client_event::{HARM, event, first_ordinal, key};
use super::strike::{Draw, Observed, Start, Strike};
use super::world::World;
use crate::fault::{Family, Kind, Needs, Target};
use crate::plan::{Condition, PlannedFault};
use crate::seed::Stream;
use crate::system::{System, SystemError};
use crate::workload::{Manner, Posted, Stop, Then};

/// Minimum number of uploads.
const UPLOADS_MIN: usize = 6;
/// Maximum number of uploads.
const UPLOADS_MAX: usize = 16;
/// Of four uploads, this number ends where the sent part is a valid event.
const VALID_OF_4: u32 = 1;
/// How long a client that has closed waits for a response, in milliseconds.
const PATIENCE_MS: u64 = 5_000;

/// Aborted uploads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AbortUpload {
    /// Ordinal of the first event. The others follow.
    pub ordinal: u64,
    /// The receiver that is their target, from 0.
    pub receiver: u32,
    /// The uploads.
    pub uploads: Vec<Abort>,
}

/// One aborted upload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Abort {
    /// Share of the event that is sent, in percent. The announced length is always greater.
    pub at_percent: u32,
    /// True for a reset, false for a close after which a response is awaited.
    pub reset: bool,
    /// True if the event has a key, under which it is posted in full afterwards.
    pub keyed: bool,
}

impl Strike for AbortUpload {
    const KIND: Kind = Kind {
        name: "client.abort",
        family: Family::Client,
        about: "uploads broken off inside of their body, by a reset or a close",
        needs: Needs::NOTHING,
        harm: HARM,
    };

    fn draw(draw: &Draw<'_>) -> Vec<PlannedFault<Self>> {
        let mut numbers = 0..;
        draw.spread(|draws| {
            let number = numbers.next().expect("the range has no end");
            let uploads = draws.random_range(UPLOADS_MIN..=UPLOADS_MAX);
            let upload = Self {
                ordinal: first_ordinal(draw.kinds, &Self::KIND, number),
                receiver: draws.random_range(0..draw.profile.receivers),
                uploads: (0..uploads).map(|_| abort(draws)).collect(),
            };
            (Condition::Time, upload)
        })
    }

    fn target(&self) -> Target {
        Target::Clients
    }

    fn events(&self) -> u64 {
        self.uploads.len() as u64
    }

    async fn strike<S: System>(
        &self,
        world: &mut World<'_, S>,
        start: &Start,
    ) -> Result<Observed, SystemError> {
        let events = (self.ordinal..).zip(&self.uploads).map(|(ordinal, abort)| {
            let key = abort.keyed.then(|| key(ordinal));
            (event(ordinal, self.receiver, key), abort)
        });
        let events: Vec<_> = events.collect();
        let uploads =
            events.iter().map(|(event, abort)| world.workload.upload(event, abort.manner()));
        let ended = join_all(uploads).await;
        for (event, _) in events.iter().filter(|(event, _)| event.key.is_some()) {
            world.workload.post_until_answered(event).await;
        }
        Ok(Observed::seen(start.at_us, summary(&ended)))
    }

    async fn heal<S: System>(&self, _: &mut World<'_, S>) -> Result<(), SystemError> {
        // Clients end by themselves.
        Ok(())
    }
}

impl Abort {
    fn manner(&self) -> Manner {
        let then = if self.reset { Then::Reset } else { Then::Close };
        Manner {
            pause_ms: 0,
            stop: Some(Stop { at_percent: self.at_percent, then }),
            patience_ms: PATIENCE_MS,
        }
    }
}

fn abort(draws: &mut Stream) -> Abort {
    let is_valid = draws.random_range(0..4) < VALID_OF_4;
    let within = draws.random_range(0..100);
    Abort {
        at_percent: if is_valid { 100 } else { within },
        reset: draws.random_range(0..2) == 0,
        keyed: draws.random_range(0..2) == 0,
    }
}

fn summary(ended: &[Posted]) -> Option<String> {
    let count = |wanted| ended.iter().filter(|posted| **posted == wanted).count();
    let (aborted, refused) = (count(Posted::Unknown), count(Posted::Refused));
    let summary = format!("{aborted} uploads ended without a response, {refused} were refused");
    (aborted + refused > 0).then_some(summary)
}
