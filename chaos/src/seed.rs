//! The seed: one number from which every draw of a run follows.
//!
//! Each label has its own stream, so that a new draw in one place does not change the draws of
//! another. No other file of the harness creates a random number generator.

use std::fmt;
use std::str::FromStr;

use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A repeatable source of draws. Only [`Seed::stream`] creates it.
pub type Stream = ChaCha12Rng;

/// The seed of a run. It is written as `0x…` and read as decimal or `0x…`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Seed(u64);

/// A text that is not a seed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not a seed: expected a decimal or 0x… number of at most 64 bits")]
pub struct SeedError(String);

impl Seed {
    /// The seed with this number.
    #[must_use]
    pub const fn new(number: u64) -> Seed {
        Seed(number)
    }

    /// A random seed.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "a fresh seed is the only draw without a seed")]
    pub fn fresh() -> Seed {
        Seed(rand::random())
    }

    /// This seed plus a number of steps. It wraps around at 64 bits.
    #[must_use]
    pub const fn plus(self, steps: u64) -> Seed {
        Seed(self.0.wrapping_add(steps))
    }

    /// The stream of draws of this label.
    #[must_use]
    pub fn stream(self, label: &str) -> Stream {
        let mut hash = Sha256::new();
        hash.update(self.0.to_le_bytes());
        hash.update(label.as_bytes());
        ChaCha12Rng::from_seed(hash.finalize().into())
    }
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl FromStr for Seed {
    type Err = SeedError;

    fn from_str(text: &str) -> Result<Seed, SeedError> {
        let wrong = || SeedError(text.to_owned());
        let hex = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
        let (digits, radix) = hex.map_or((text, 10), |digits| (digits, 16));
        // `from_str_radix` would accept a sign.
        if !digits.chars().all(|c| c.is_digit(radix)) {
            return Err(wrong());
        }
        u64::from_str_radix(digits, radix).map(Seed).map_err(|_| wrong())
    }
}

impl TryFrom<String> for Seed {
    type Error = SeedError;

    fn try_from(text: String) -> Result<Seed, SeedError> {
        text.parse()
    }
}

impl From<Seed> for String {
    fn from(seed: Seed) -> String {
        seed.to_string()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use proptest::prelude::*;
    use rand::RngExt;

    proptest! {
        #[test]
        fn seed_reads_back_from_hex_and_decimal(number: u64) {
            let seed = Seed::new(number);
            prop_assert_eq!(seed.to_string().parse::<Seed>().unwrap(), seed);
            prop_assert_eq!(number.to_string().parse::<Seed>().unwrap(), seed);
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = text.parse::<Seed>();
        }
    }

    #[test]
    fn signs_blanks_and_long_numbers_are_not_seeds() {
        for text in ["", "0x", "+1", "-1", " 1", "1 ", "0x-1", "banana", "18446744073709551616"] {
            assert_eq!(text.parse::<Seed>(), Err(SeedError(text.into())), "{text:?}");
        }
    }

    #[test]
    fn streams_repeat_and_labels_do_not_share_draws() {
        let draw = |label: &str| Seed::new(7).stream(label).random_range(0..u64::MAX);
        assert_eq!(draw("workload"), draw("workload"));
        assert_ne!(draw("workload"), draw("nemesis/kill_worker"));
    }
}
