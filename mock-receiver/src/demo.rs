//! The script of the demo: failures, delays and hangs at given rates, drawn from a seed.
//!
//! A draw depends only on (seed, ordinal, attempt), so the order of requests does not matter. The
//! webhook id replaces a missing ordinal, and the number of arrivals a missing attempt number.

use std::sync::Arc;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

use crate::behavior::{Behavior, RetryAfter};
use crate::script::{Script, Seen};

/// Share of failures with a `Retry-After` header: half of them 503, half 429. The others are 500.
const RETRY_AFTER_RATE: f64 = 0.2;

/// Value of `Retry-After` in seconds. It exceeds the first backoff of the dispatcher's defaults.
const RETRY_AFTER_SECONDS: u64 = 3;

/// Settings of the demo's script.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Demo {
    /// Seed of every draw.
    pub seed: u64,
    /// Share of failures among the responses, 0 to 1. Of the failures, 80 % are 500; the others are
    /// 503 or 429 with `Retry-After: 3`.
    pub failure_rate: f64,
    /// Maximum delay of a response in milliseconds. Delays are distributed evenly from 0.
    pub delay_ms_max: u64,
    /// Share of requests without a response, 0 to 1. It is drawn before the failures.
    pub hang_rate: f64,
    /// Maximum duration of a hang in milliseconds.
    pub hang_ms_max: u64,
}

impl Demo {
    /// Draws the behavior of one request. Depends only on the settings and `seen`.
    pub fn draw(&self, seen: &Seen) -> Behavior {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(stream(seen));
        // All values are always drawn, so that one setting does not change the draws of the others.
        let hangs = rng.random_range(0.0..1.0) < self.hang_rate;
        let fails = rng.random_range(0.0..1.0) < self.failure_rate;
        let after_ms = rng.random_range(0..=self.delay_ms_max);
        let has_retry_after = rng.random_range(0.0..1.0) < RETRY_AFTER_RATE;
        let overloaded = rng.random_range(0.0..1.0) < 0.5;
        if hangs {
            return Behavior::Hang { hold_ms: self.hang_ms_max };
        }
        let (status, retry_after) = match (fails, has_retry_after, overloaded) {
            (false, _, _) => (200, None),
            (true, false, _) => (500, None),
            (true, true, true) => (503, Some(RetryAfter::Seconds(RETRY_AFTER_SECONDS))),
            (true, true, false) => (429, Some(RetryAfter::Seconds(RETRY_AFTER_SECONDS))),
        };
        Behavior::Answer { status, retry_after, after_ms }
    }

    /// Returns the script with these settings.
    pub fn into_script(self) -> Script {
        Arc::new(move |seen| self.draw(seen))
    }
}

/// Returns the RNG stream of an ordinal or id and an attempt.
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
    u64::from_be_bytes(*digest.first_chunk().expect("a digest has more than eight bytes"))
}
