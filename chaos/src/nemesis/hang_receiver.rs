//! A receiver that takes every request and does not respond, while the other receivers are healthy.
//!
//! Endangers: isolation, liveness. The hang replaces the script of the receiver. A request hangs
//! until the deadline of its sender, so that events lose attempts. The effect is the number of
//! requests that hung, and the duration counts from the first of them.

use std::time::Duration;

use rand::RngExt;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use super::observed::RECEIVER_FAULT_MS_MAX;
use super::over_link::{TOUCHED, untouched};
use super::strike::{Draw, Observed, Start, Strike};
use super::world::World;
use crate::fault::{Aftermath, Family, Harm, Kills, Kind, Needs, Target};
use crate::plan::{Condition, PlannedFault};
use crate::system::{System, SystemError};

/// Shortest hang, in milliseconds: twice the time that an event of a healthy target may wait.
const FOR_MS_MIN: u64 = 4_000;

/// A receiver that hangs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HangReceiver {
    /// The receiver, from 0.
    pub receiver: u32,
    /// Duration after the first request, in milliseconds.
    pub for_ms: u64,
}

impl Strike for HangReceiver {
    const KIND: Kind = Kind {
        name: "receiver.hang",
        family: Family::Receiver,
        about: "one receiver takes every request and answers none",
        needs: Needs::NOTHING,
        harm: Harm {
            kills: Kills::Nothing,
            stops_workers: false,
            expires_leases: false,
            loses_settles: false,
            loses_presence: false,
            loses_requests: false,
            withholds_responses: true,
            exhausts_machine: false,
            logs_errors: false,
            abandons_max: 0,
            aftermath: Aftermath::Receiver {
                for_ms: RECEIVER_FAULT_MS_MAX,
            },
        },
    };

    fn draw(draw: &Draw<'_>) -> Vec<PlannedFault<Self>> {
        draw.spread(|draws| {
            let hang = Self {
                receiver: draws.random_range(0..draw.profile.receivers),
                for_ms: draws.random_range(FOR_MS_MIN..=RECEIVER_FAULT_MS_MAX),
            };
            (Condition::Time, hang)
        })
    }

    fn target(&self) -> Target {
        Target::Receiver(self.receiver)
    }

    async fn strike<S: System>(
        &self,
        world: &mut World<'_, S>,
        _: &Start,
    ) -> Result<Observed, SystemError> {
        let before = world.hangs.hung(self.receiver);
        let hung = || world.hangs.hung(self.receiver) - before;
        world.hangs.begin(self.receiver);
        let until = Instant::now() + TOUCHED;
        if hung() == 0 && !world.recorder.sees(until, |_| hung() > 0).await {
            return Err(untouched("receivers", &self.target().to_string()));
        }
        let effective_us = world.recorder.now_us();
        sleep(Duration::from_millis(self.for_ms)).await;
        let seen = format!("{} requests hung", hung());
        Ok(Observed::seen(effective_us, Some(seen)))
    }

    async fn heal<S: System>(&self, world: &mut World<'_, S>) -> Result<(), SystemError> {
        world.hangs.end(self.receiver);
        Ok(())
    }
}
