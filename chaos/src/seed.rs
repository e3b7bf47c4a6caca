//! The seed: the one number from which everything drawn in a run follows.
//!
//! Each thing that draws has a stream of its own, named by a label, so that a new draw in one place
//! moves nothing in another. This is the only file of the harness that makes a generator.

use std::fmt;
use std::str::FromStr;

use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A repeatable source of draws; made by [`Seed::stream`] only.
pub type Stream = ChaCha12Rng;

/// What a run is drawn from; written `0x…` and read as decimal or `0x…`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Seed(u64);

/// Why a text is no seed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a seed is a decimal or 0x… number of at most 64 bits, not {0:?}")]
pub struct SeedError(String);

impl Seed {
    /// The seed with this number.
    #[must_use]
    pub const fn new(number: u64) -> Seed {
        Seed(number)
    }

    /// A seed that nobody chose.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "a fresh seed is the one draw that has no seed"
    )]
    pub fn fresh() -> Seed {
        Seed(rand::random())
    }

    /// The seed that comes so many after this one.
    #[must_use]
    pub const fn plus(self, steps: u64) -> Seed {
        Seed(self.0.wrapping_add(steps))
    }

    /// The stream of draws that belongs to `label`.
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
        // from_str_radix would take a sign.
        if !digits.chars().all(|c| c.is_digit(radix)) {
            return Err(wrong());
        }
        u64::from_str_radix(digits, radix)
            .map(Seed)
            .map_err(|_| wrong())
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
        fn a_seed_reads_back_from_both_of_its_spellings(number: u64) {
            let seed = Seed::new(number);
            prop_assert_eq!(seed.to_string().parse::<Seed>().unwrap(), seed);
            prop_assert_eq!(number.to_string().parse::<Seed>().unwrap(), seed);
        }

        #[test]
        fn any_text_is_a_seed_or_an_error_and_never_a_panic(text: String) {
            let _ = text.parse::<Seed>();
        }
    }

    #[test]
    fn signs_blanks_and_overlong_numbers_are_no_seeds() {
        for text in [
            "",
            "0x",
            "+1",
            "-1",
            " 1",
            "1 ",
            "0x-1",
            "banana",
            "18446744073709551616",
        ] {
            assert_eq!(
                text.parse::<Seed>(),
                Err(SeedError(text.into())),
                "{text:?}"
            );
        }
    }

    #[test]
    fn streams_repeat_and_labels_do_not_share_draws() {
        let draw = |label: &str| Seed::new(7).stream(label).random_range(0..u64::MAX);
        assert_eq!(draw("workload"), draw("workload"));
        assert_ne!(draw("workload"), draw("nemesis/kill_worker"));
    }
}
