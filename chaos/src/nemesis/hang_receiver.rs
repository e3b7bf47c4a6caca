//! Receivers that take every request and do not respond: one of them, or all but one.
//!
//! Endangers: isolation, liveness. The hang replaces the script of the receiver. A request hangs
//! until the deadline of its sender, so that events lose attempts. The effect is the number of
//! requests that hung, and the duration counts from the first of them.

use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::observed::RECEIVER_FAULT_MS_MAX;
use super::over_receiver;
use super::strike::{Draw, Observed, Start, Strike};
use super::world::World;
use crate::fault::{Aftermath, Family, Harm, Kills, Kind, Needs, Target};
use crate::plan::{Condition, PlannedFault};
use crate::switch::Switched;
use crate::system::{System, SystemError};

/// Shortest hang, in milliseconds: twice the time that an event of a healthy target may wait.
const FOR_MS_MIN: u64 = 4_000;

/// The harm of a hang.
const HARM: Harm = Harm {
    kills: Kills::Nothing,
    stops_workers: false,
    expires_leases: false,
    loses_settles: false,
    loses_presence: false,
    loses_requests: false,
    withholds_responses: true,
    exhausts_machine: false,
    logs_errors: false,
    denies_database: false,
    abandons_max: 0,
    aftermath: Aftermath::Receiver { for_ms: RECEIVER_FAULT_MS_MAX },
};

/// A receiver that hangs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HangReceiver {
    /// The receiver, from 0.
    pub receiver: u32,
    /// Duration after the first request, in milliseconds.
    pub for_ms: u64,
}

/// All receivers hang, except one. Together they can hold every permit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HangMost {
    /// The receivers that hang, from 0.
    pub receivers: Vec<u32>,
    /// Duration after the first request, in milliseconds.
    pub for_ms: u64,
}

impl Strike for HangReceiver {
    const KIND: Kind = Kind {
        name: "receiver.hang",
        family: Family::Receiver,
        about: "one receiver takes every request and answers none",
        needs: Needs::NOTHING,
        harm: HARM,
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
        let (switched, what) = (Switched::Hang, "requests hung");
        over_receiver::hold(world, &[self.receiver], switched, self.for_ms, what).await
    }

    async fn heal<S: System>(&self, world: &mut World<'_, S>) -> Result<(), SystemError> {
        over_receiver::end(world, &[self.receiver]);
        Ok(())
    }
}

impl Strike for HangMost {
    const KIND: Kind = Kind {
        name: "receiver.hang_most",
        family: Family::Receiver,
        about: "all receivers but one take every request and answer none",
        needs: Needs::NOTHING,
        harm: HARM,
    };

    fn draw(draw: &Draw<'_>) -> Vec<PlannedFault<Self>> {
        draw.spread(|draws| {
            let healthy = draws.random_range(0..draw.profile.receivers);
            let receivers = (0..draw.profile.receivers).filter(|receiver| *receiver != healthy);
            let hang = Self {
                receivers: receivers.collect(),
                for_ms: draws.random_range(FOR_MS_MIN..=RECEIVER_FAULT_MS_MAX),
            };
            (Condition::Time, hang)
        })
    }

    fn target(&self) -> Target {
        Target::Receivers(self.receivers.clone())
    }

    async fn strike<S: System>(
        &self,
        world: &mut World<'_, S>,
        _: &Start,
    ) -> Result<Observed, SystemError> {
        let (switched, what) = (Switched::Hang, "requests hung");
        over_receiver::hold(world, &self.receivers, switched, self.for_ms, what).await
    }

    async fn heal<S: System>(&self, world: &mut World<'_, S>) -> Result<(), SystemError> {
        over_receiver::end(world, &self.receivers);
        Ok(())
    }
}
