//! Saboteurs: deliberately broken dispatchers, each with the checker that must catch it.
//!
//! They run under the same runner, receivers and checkers as the real system, so that a checker that
//! lets one through is seen. A saboteur is a [`Lie`] told by a small stand-in dispatcher; without a lie
//! the stand-in is honest, and every checker must say so. Nothing here is a model of the dispatcher.

mod api;
mod delivery;
pub mod forgets_after_202;
pub mod says_delivered_unsent;
pub mod signs_wrongly;
pub mod stand_in;

use std::sync::Arc;

pub use stand_in::StandIn;

/// Where a stand-in may differ from an honest dispatcher. Every method has the honest answer.
pub trait Lie: Send + Sync + std::fmt::Debug {
    /// Whether the `number`-th event is kept after its 202; counted from 1.
    fn keeps(&self, number: u64) -> bool {
        let _ = number;
        true
    }

    /// Whether the `number`-th event is sent before it is called delivered.
    fn sends(&self, number: u64) -> bool {
        let _ = number;
        true
    }

    /// The bytes that are signed for a body.
    fn signed_bytes(&self, body: &[u8]) -> Vec<u8> {
        body.to_vec()
    }
}

/// The stand-in that tells no lie.
#[derive(Debug)]
pub struct Honest;

impl Lie for Honest {}

/// A broken dispatcher and who must catch it.
#[derive(Clone, Debug)]
pub struct Saboteur {
    /// Its name.
    pub name: &'static str,
    /// What it does wrong, in a sentence.
    pub what: &'static str,
    /// The checker that must say invalid.
    pub caught_by: &'static str,
    /// Where it differs.
    pub lie: Arc<dyn Lie>,
}

/// Every saboteur.
#[must_use]
pub fn all() -> Vec<Saboteur> {
    vec![
        forgets_after_202::saboteur(),
        says_delivered_unsent::saboteur(),
        signs_wrongly::saboteur(),
    ]
}
