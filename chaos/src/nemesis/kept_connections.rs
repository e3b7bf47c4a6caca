//! A receiver that does something unexpected on connections that it kept: bytes that no request
//! asked for, or a close that it did not announce.
//!
//! Endangers: the agreement of settles and responses, because such bytes may be taken for the
//! response to the next request, and the attempts of events. The step follows each complete
//! response of the script, whatever its status. The effect is the number of these responses.

use rand::RngExt;
use rand::seq::IndexedRandom;
use serde::{Deserialize, Serialize};

use mock_receiver::Then;

use super::observed::RECEIVER_FAULT_MS_MAX;
use super::over_receiver;
use super::strike::{Draw, Observed, Start, Strike};
use super::world::World;
use crate::fault::{Aftermath, Family, Harm, Kills, Kind, Link, Needs, Target};
use crate::plan::{Condition, PlannedFault};
use crate::switch::Switched;
use crate::system::{System, SystemError};

/// Shortest duration, in milliseconds.
const FOR_MS_MIN: u64 = 2_000;
/// Longest time from a response to unexpected bytes, in milliseconds. A worker that sends many
/// events uses the connection again within this time.
const STRAY_MS_MAX: u64 = 2;
/// Times from a response to the close, in milliseconds: with the response, while the next request
/// may be sent, and of a short idle timeout.
const CLOSE_MS: &[u64] = &[0, 3, 300];

/// Attempts may fail. An event is never delivered by the response to another one.
const HARM: Harm = Harm {
    kills: Kills::Nothing,
    stops_workers: false,
    expires_leases: false,
    loses_settles: false,
    loses_presence: false,
    loses_requests: true,
    withholds_responses: false,
    exhausts_machine: false,
    logs_errors: false,
    denies_database: false,
    abandons_max: 0,
    aftermath: Aftermath::Receiver { for_ms: RECEIVER_FAULT_MS_MAX },
};

/// Bytes that no request asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StrayBytes {
    /// The receiver, from 0.
    pub receiver: u32,
    /// The bytes: a complete response, or content.
    pub bytes: Then,
    /// Time from each response to the bytes, in milliseconds.
    pub after_ms: u64,
    /// Duration, in milliseconds.
    pub for_ms: u64,
}

/// Connections that are closed without an announcement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloseKept {
    /// The receiver, from 0.
    pub receiver: u32,
    /// Time from each response to the close, in milliseconds.
    pub after_ms: u64,
    /// Duration, in milliseconds.
    pub for_ms: u64,
}

impl Strike for StrayBytes {
    const KIND: Kind = Kind {
        name: "receiver.stray_bytes",
        family: Family::Receiver,
        about: "one receiver sends an unsolicited 200, or content, after each response",
        needs: Needs::NOTHING,
        harm: HARM,
    };

    fn draw(draw: &Draw<'_>) -> Vec<PlannedFault<Self>> {
        draw.spread(|draws| {
            let stray = Self {
                receiver: draws.random_range(0..draw.profile.receivers),
                bytes: *[Then::Response, Then::Response, Then::Content]
                    .choose(draws)
                    .expect("the list has entries"),
                after_ms: draws.random_range(0..=STRAY_MS_MAX),
                for_ms: draws.random_range(FOR_MS_MIN..=RECEIVER_FAULT_MS_MAX),
            };
            (Condition::Time, stray)
        })
    }

    fn target(&self) -> Target {
        Target::Links(vec![Link::ToReceiver(self.receiver)])
    }

    async fn strike<S: System>(
        &self,
        world: &mut World<'_, S>,
        _: &Start,
    ) -> Result<Observed, SystemError> {
        let what = match self.bytes {
            Then::Response => "responses were followed by an unsolicited 200",
            _ => "responses were followed by bytes that are not HTTP",
        };
        let switched = Switched::Then(self.bytes, self.after_ms);
        over_receiver::hold(world, &[self.receiver], switched, self.for_ms, what).await
    }

    async fn heal<S: System>(&self, world: &mut World<'_, S>) -> Result<(), SystemError> {
        over_receiver::end(world, &[self.receiver]);
        Ok(())
    }
}

impl Strike for CloseKept {
    const KIND: Kind = Kind {
        name: "receiver.close_kept",
        family: Family::Receiver,
        about: "one receiver closes each connection after a response, without announcing it",
        needs: Needs::NOTHING,
        harm: HARM,
    };

    fn draw(draw: &Draw<'_>) -> Vec<PlannedFault<Self>> {
        draw.spread(|draws| {
            let close = Self {
                receiver: draws.random_range(0..draw.profile.receivers),
                after_ms: *CLOSE_MS.choose(draws).expect("the list has entries"),
                for_ms: draws.random_range(FOR_MS_MIN..=RECEIVER_FAULT_MS_MAX),
            };
            (Condition::Time, close)
        })
    }

    fn target(&self) -> Target {
        Target::Links(vec![Link::ToReceiver(self.receiver)])
    }

    async fn strike<S: System>(
        &self,
        world: &mut World<'_, S>,
        _: &Start,
    ) -> Result<Observed, SystemError> {
        let what = "responses were followed by a close";
        let switched = Switched::Then(Then::Close, self.after_ms);
        over_receiver::hold(world, &[self.receiver], switched, self.for_ms, what).await
    }

    async fn heal<S: System>(&self, world: &mut World<'_, S>) -> Result<(), SystemError> {
        over_receiver::end(world, &[self.receiver]);
        Ok(())
    }
}
