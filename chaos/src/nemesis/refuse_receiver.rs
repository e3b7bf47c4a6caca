//! A receiver that is away: for a while, connections to it are refused.
//!
//! Endangers: attempts, backoff, liveness. Done on the way to the receiver, so that its port stays its
//! own; a connection that lives is reset, so an answer may be lost. The effect is a connection of the
//! harness's own that was refused.

use std::io::ErrorKind;
use std::time::Duration;

use rand::RngExt;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::draw::spread;
use super::{Applied, Fault, PlannedFault, RECEIVER_FAULT_MS_MAX, Sight, World};
use crate::fault::{Aftermath, Family, Harm, Kills, Kind, Link, Needs, Target};
use crate::profile::Profile;
use crate::proxy::Control;
use crate::seed::Seed;

pub(super) const KIND: Kind = Kind {
    name: "receiver.refuse",
    family: Family::Receiver,
    about: "one receiver refuses connections for a while",
    needs: Needs::LINKS,
    harm: HARM,
};

/// The harm of a receiver that refuses connections and resets the open ones.
pub(super) const HARM: Harm = Harm {
    kills: Kills::Nothing,
    stops_workers: false,
    expires_leases: false,
    loses_settles: false,
    loses_presence: false,
    loses_requests: true,
    withholds_responses: false,
    exhausts_machine: false,
    logs_errors: false,
    abandons_max: 0,
    aftermath: Aftermath::Receiver {
        for_ms: RECEIVER_FAULT_MS_MAX,
    },
};

/// The shortest absence, in milliseconds.
const FOR_MS_MIN: u64 = 1_000;

/// A receiver that is away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefuseReceiver {
    /// Which receiver, from 0.
    pub receiver: u32,
    /// How long, in milliseconds.
    pub for_ms: u64,
}

pub(super) fn draw(seed: Seed, profile: &Profile) -> Vec<PlannedFault> {
    spread(seed, profile, &KIND, |draws| {
        let refuse = RefuseReceiver {
            receiver: draws.random_range(0..profile.receivers),
            for_ms: draws.random_range(FOR_MS_MIN..=RECEIVER_FAULT_MS_MAX),
        };
        (Sight::Time, Fault::RefuseReceiver(refuse))
    })
}

impl RefuseReceiver {
    pub(super) async fn apply<S>(&self, world: &mut World<'_, S>, fault: u64) -> Applied {
        let once = [(self.for_ms, 0)];
        come_and_go(world, (fault, &KIND), self.receiver, &once).await
    }

    pub(super) fn heal<S>(&self, world: &World<'_, S>) -> Applied {
        world.links.heal(Link::ToReceiver(self.receiver));
        Ok(())
    }
}

/// The whole life of a fault in which a receiver is away and back in turns, each so many milliseconds
/// long.
pub(super) async fn come_and_go<S>(
    world: &World<'_, S>,
    (fault, kind): (u64, &Kind),
    receiver: u32,
    turns_ms: &[(u64, u64)],
) -> Applied {
    let link = Link::ToReceiver(receiver);
    let proxy = world.link(link)?;
    let begun = world.begin(fault, kind, Target::Links(vec![link]));
    let effective_us = world.recorder.now_us();
    let mut refused = 0;
    for (away_ms, back_ms) in turns_ms {
        proxy.set(Control::Refuse);
        sleep(Duration::from_millis(*away_ms)).await;
        let tried = TcpStream::connect(proxy.address()).await;
        proxy.set(Control::Pass);
        let is_refused = tried.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused);
        refused += u32::from(is_refused);
        sleep(Duration::from_millis(*back_ms)).await;
    }
    let times = turns_ms.len();
    let observed = format!("refused connections {refused} of {times} times");
    let observed = (refused > 0).then_some(observed);
    world.effect(&begun, effective_us, Vec::new(), observed);
    world.end(&begun);
    Ok(())
}
