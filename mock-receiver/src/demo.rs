//! The demo's script: failures, delays and hangs by rate, drawn from a seed.
//!
//! The draw is a pure function of (seed, ordinal, attempt): the same seed gives the same request
//! the same behavior in whatever order requests come. Without an ordinal the webhook id takes its
//! place; without an attempt number, the count of arrivals.

use std::sync::Arc;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

use crate::behavior::{Behavior, RetryAfter};
use crate::script::{Script, Seen};

/// Of all failures, how many are not a plain 500: a fifth, shared between 503 and 429.
const RICH_FAILURE_RATE: f64 = 0.2;

/// The `Retry-After` of those, in seconds: longer than the first backoff of the default settings.
const RETRY_AFTER_SECONDS: u64 = 3;

/// The knobs of the demo's script.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Demo {
    /// The seed of every draw.
    pub seed: u64,
    /// The share of answers that are failures, 0 to 1: four in five a plain 500, the rest 503 or
    /// 429 with `Retry-After: 3`.
    pub failure_rate: f64,
    /// Every answer comes after a delay drawn evenly between 0 and this, in milliseconds.
    pub delay_ms_max: u64,
    /// The share of requests that get no answer at all, 0 to 1; drawn before the failures.
    pub hang_rate: f64,
    /// How long a hang holds the connection at most, in milliseconds.
    pub hang_ms_max: u64,
}

impl Demo {
    /// The behavior of one request: pure.
    pub fn draw(&self, seen: &Seen) -> Behavior {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(stream(seen));
        // Every draw is made whatever the others say, so that one knob does not move the others.
        let hangs = rng.random_range(0.0..1.0) < self.hang_rate;
        let fails = rng.random_range(0.0..1.0) < self.failure_rate;
        let after_ms = rng.random_range(0..=self.delay_ms_max);
        let rich = rng.random_range(0.0..1.0) < RICH_FAILURE_RATE;
        let overloaded = rng.random_range(0.0..1.0) < 0.5;
        if hangs {
            return Behavior::Hang {
                hold_ms: self.hang_ms_max,
            };
        }
        let (status, retry_after) = match (fails, rich, overloaded) {
            (false, _, _) => (200, None),
            (true, false, _) => (500, None),
            (true, true, true) => (503, Some(RetryAfter::Seconds(RETRY_AFTER_SECONDS))),
            (true, true, false) => (429, Some(RetryAfter::Seconds(RETRY_AFTER_SECONDS))),
        };
        Behavior::Answer {
            status,
            retry_after,
            after_ms,
        }
    }

    /// The script of these knobs.
    pub fn into_script(self) -> Script {
        Arc::new(move |seen| self.draw(seen))
    }
}

/// One stream for each (ordinal or id, attempt).
fn stream(seen: &Seen) -> u64 {
    let mut hash = Sha256::new();
    match seen.ordinal {
        Some(ordinal) => {
            hash.update(b"ordinal");
            hash.update(ordinal.to_be_bytes());
        }
        None => {
            hash.update(b"id");
            hash.update(seen.id.as_bytes());
        }
    }
    hash.update(seen.attempt.unwrap_or(seen.arrival).to_be_bytes());
    let digest: [u8; 32] = hash.finalize().into();
    u64::from_be_bytes(
        *digest
            .first_chunk()
            .expect("a digest has more than eight bytes"),
    )
}
