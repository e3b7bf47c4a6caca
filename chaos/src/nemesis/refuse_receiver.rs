//! A receiver that refuses connections, once or several times in a row.
//!
//! Endangers: attempts, backoff, liveness, isolation. The proxy on the link refuses, so that the
//! receiver keeps its port. Open connections are reset, so that responses may be lost. A flapping
//! receiver is back too briefly to work off its queue. The effect is the number of connections of
//! the harness that were refused.

use std::io::ErrorKind;
use std::time::Duration;

use rand::RngExt;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::observed::RECEIVER_FAULT_MS_MAX;
use super::strike::{Draw, Observed, Start, Strike};
use super::world::World;
use crate::fault::{Aftermath, Family, Harm, Kills, Kind, Link, Needs, Target};
use crate::plan::{Condition, PlannedFault};
use crate::proxy::Control;
use crate::system::{System, SystemError};

/// Shortest time of refusal of [`RefuseReceiver`], in milliseconds.
const FOR_MS_MIN: u64 = 1_000;
/// Shortest time down, or back, of [`FlapReceiver`], in milliseconds.
const TURN_MS_MIN: u64 = 100;
/// Longest time down, or back, of [`FlapReceiver`], in milliseconds.
const TURN_MS_MAX: u64 = 500;
/// Number of times that a flapping receiver goes down, within the limit of receiver faults.
const TIMES: u64 = RECEIVER_FAULT_MS_MAX / (2 * TURN_MS_MAX);

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

/// A receiver that refuses connections for a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefuseReceiver {
    /// The receiver, from 0.
    pub receiver: u32,
    /// Duration, in milliseconds.
    pub for_ms: u64,
}

/// A receiver that refuses connections several times in a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlapReceiver {
    /// The receiver, from 0.
    pub receiver: u32,
    /// Time down and time back for each turn, in milliseconds.
    pub turns_ms: Vec<(u64, u64)>,
}

impl Strike for RefuseReceiver {
    const KIND: Kind = Kind {
        name: "receiver.refuse",
        family: Family::Receiver,
        about: "one receiver refuses connections for a while",
        needs: Needs::LINKS,
        harm: HARM,
    };

    fn draw(draw: &Draw<'_>) -> Vec<PlannedFault<Self>> {
        draw.spread(|draws| {
            let refuse = Self {
                receiver: draws.random_range(0..draw.profile.receivers),
                for_ms: draws.random_range(FOR_MS_MIN..=RECEIVER_FAULT_MS_MAX),
            };
            (Condition::Time, refuse)
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
        refuse_in_turns(world, self.receiver, &[(self.for_ms, 0)]).await
    }

    async fn heal<S: System>(&self, world: &mut World<'_, S>) -> Result<(), SystemError> {
        world.links.heal(Link::ToReceiver(self.receiver));
        Ok(())
    }
}

impl Strike for FlapReceiver {
    const KIND: Kind = Kind {
        name: "receiver.flap",
        family: Family::Receiver,
        about: "one receiver refuses connections, is back, refuses again, …",
        needs: Needs::LINKS,
        harm: HARM,
    };

    fn draw(draw: &Draw<'_>) -> Vec<PlannedFault<Self>> {
        draw.spread(|draws| {
            let receiver = draws.random_range(0..draw.profile.receivers);
            let mut turn_ms = || draws.random_range(TURN_MS_MIN..=TURN_MS_MAX);
            let turns_ms = (0..TIMES).map(|_| (turn_ms(), turn_ms())).collect();
            (Condition::Time, Self { receiver, turns_ms })
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
        refuse_in_turns(world, self.receiver, &self.turns_ms).await
    }

    async fn heal<S: System>(&self, world: &mut World<'_, S>) -> Result<(), SystemError> {
        world.links.heal(Link::ToReceiver(self.receiver));
        Ok(())
    }
}

async fn refuse_in_turns<S>(
    world: &World<'_, S>,
    receiver: u32,
    turns_ms: &[(u64, u64)],
) -> Result<Observed, SystemError> {
    let proxy = world.link(Link::ToReceiver(receiver))?;
    let effective_us = world.recorder.now_us();
    let mut refused = 0;
    for (down_ms, back_ms) in turns_ms {
        proxy.set(Control::Refuse);
        sleep(Duration::from_millis(*down_ms)).await;
        let tried = TcpStream::connect(proxy.address()).await;
        proxy.set(Control::Pass);
        let is_refused = tried.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused);
        refused += u32::from(is_refused);
        sleep(Duration::from_millis(*back_ms)).await;
    }
    let times = turns_ms.len();
    let seen = format!("refused connections {refused} of {times} times");
    Ok(Observed::seen(effective_us, (refused > 0).then_some(seen)))
}
