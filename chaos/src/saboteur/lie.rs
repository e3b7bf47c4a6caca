//! Where a stand-in may differ from an honest dispatcher.

use std::time::Duration;

/// What the wire said of one attempt: a status with a whole body, or the class of its failure.
pub type Outcome = Result<u16, &'static str>;

/// How the API of a fake dispatcher replies to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replies {
    /// As the contract requires.
    Contract,
    /// Always with status 503.
    Unavailable,
    /// Never. The connection stays open.
    Never,
}

/// One way to be dishonest. Every method has the honest answer.
#[expect(
    unused_variables,
    reason = "the honest answer often needs no circumstances"
)]
pub trait Lie: Send + Sync + std::fmt::Debug {
    /// How it replies to `POST /events`.
    fn posts(&self) -> Replies {
        Replies::Contract
    }

    /// How it replies to `GET /events/{id}`.
    fn reads(&self) -> Replies {
        Replies::Contract
    }

    /// Whether the `number`-th event is kept after its 202; counted from 1.
    fn keeps(&self, number: u64) -> bool {
        true
    }

    /// How long after its 202 an event is stored; none when it is stored before.
    fn commits_after(&self) -> Option<Duration> {
        None
    }

    /// Whether a post under a known idempotency key is known again.
    fn remembers_keys(&self) -> bool {
        true
    }

    /// Whether other bytes under a known key are another event, which is refused.
    fn compares_bytes(&self) -> bool {
        true
    }

    /// Whether a body that was broken off is no event.
    fn wants_whole_bodies(&self) -> bool {
        true
    }

    /// Whether the claim of another worker is left alone.
    fn respects_claims(&self) -> bool {
        true
    }

    /// Whether one host takes no more than its share of the attempts that a worker has open.
    fn caps_hosts(&self) -> bool {
        true
    }

    /// Whether what a killed worker held is given up.
    fn reclaims(&self) -> bool {
        true
    }

    /// Whether an attempt after so many failures gets a number of its own.
    fn counts_attempt(&self, failures: u32) -> bool {
        true
    }

    /// Whether the `number`-th event is sent before it is called delivered.
    fn sends(&self, number: u64) -> bool {
        true
    }

    /// Where an event for `target` is sent.
    fn target(&self, target: &str) -> String {
        target.to_owned()
    }

    /// The body that is sent for a payload.
    fn body(&self, payload: &str) -> String {
        payload.to_owned()
    }

    /// The bytes that are signed for a body.
    fn signed_bytes(&self, body: &[u8]) -> Vec<u8> {
        body.to_vec()
    }

    /// Whether an outcome is a success.
    fn is_success(&self, outcome: Outcome) -> bool {
        outcome.is_ok_and(|status| (200..300).contains(&status))
    }

    /// The delay after a failure, in milliseconds, where the rule says `ruled_ms` and the receiver
    /// asked for `asked_ms`.
    fn delay_ms(&self, ruled_ms: u64, asked_ms: u64) -> u64 {
        ruled_ms.max(asked_ms)
    }

    /// The failures that end an event where the setting says `max`.
    fn budget(&self, max: u32) -> u32 {
        max
    }
}

/// The stand-in that tells no lie.
#[derive(Debug)]
pub struct Honest;

impl Lie for Honest {}
