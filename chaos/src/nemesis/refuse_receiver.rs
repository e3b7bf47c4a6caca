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
use super::{Applied, Fault, FaultKind, PlannedFault, Sight, World};
use crate::history::facts::{RECEIVER_FAULT_MS_MAX, RECEIVER_REFUSE};
use crate::links;
use crate::profile::Profile;
use crate::proxy::Control;
use crate::seed::Seed;
use crate::system::SystemError;

/// The register's entry.
pub(super) const KIND: FaultKind = FaultKind {
    name: RECEIVER_REFUSE,
    what: "one receiver refuses connections for a while",
    draw,
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

fn draw(seed: Seed, profile: &Profile) -> Vec<PlannedFault> {
    spread(seed, profile, KIND.name, |draws| {
        let refuse = RefuseReceiver {
            receiver: draws.random_range(0..profile.receivers),
            for_ms: draws.random_range(FOR_MS_MIN..=RECEIVER_FAULT_MS_MAX),
        };
        (Sight::Time, Fault::RefuseReceiver(refuse))
    })
}

impl RefuseReceiver {
    pub(super) async fn apply<S>(&self, world: &mut World<'_, S>, fault: u64) -> Applied {
        let link = links::to_receiver(self.receiver);
        let begun = world.begin(fault, KIND.name, &link);
        let effective_us = world.recorder.now_us();
        let refused = refuse_for(world, &link, Duration::from_millis(self.for_ms)).await?;
        let observed = refused.then(|| "a connection was refused".to_owned());
        world.effect(&begun, effective_us, Vec::new(), observed);
        world.end(&begun);
        Ok(())
    }

    pub(super) fn heal<S>(&self, world: &World<'_, S>) -> Applied {
        world.links.heal(&links::to_receiver(self.receiver));
        Ok(())
    }
}

/// Refuses connections on a link for so long; true when one of the harness's own was refused.
pub(super) async fn refuse_for<S>(
    world: &World<'_, S>,
    link: &str,
    how_long: Duration,
) -> Result<bool, SystemError> {
    let proxy = world.links.link(link);
    let proxy = proxy.map_err(|why| SystemError::Unavailable {
        driver: "links",
        why,
    })?;
    proxy.set(Control::Refuse);
    sleep(how_long).await;
    let tried = TcpStream::connect(proxy.address()).await;
    proxy.set(Control::Pass);
    Ok(tried.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused))
}
