//! THE retry rule: what becomes of an event after an attempt, and when a lease that its holder lost is due again.
//!
//! Pure: the policy, the count, the outcome and the RNG are inputs; nothing is read from anywhere else.

use std::time::Duration;

use rand::{Rng, RngExt};

use crate::event::{AttemptResult, Disposition, Outcome, Reason};

/// A delay is drawn from `[d, (1 + JITTER) d]`.
const JITTER: f64 = 0.25;

/// The status by which a target ends an event.
const GONE: u16 = 410;

/// The settings that decide when, and how often, an event is tried again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Policy {
    /// `BACKOFF_BASE_SECONDS`: the first delay.
    pub base: Duration,
    /// `BACKOFF_CAP_SECONDS`: no delay before jitter is longer.
    pub cap: Duration,
    /// `RETRY_AFTER_CAP_SECONDS`: as far as a `Retry-After` is followed.
    pub retry_after_cap: Duration,
    /// `MAX_ATTEMPTS`: settled failures that make an event dead.
    pub max_attempts: u32,
    /// `MAX_ABANDONED`: abandoned attempts in a row that make an event dead.
    pub max_abandoned: u32,
}

/// A disposition, and what was cut from the receiver's wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What becomes of the event.
    pub disposition: Disposition,
    /// The `Retry-After` that the cap cut short.
    pub cut_retry_after: Option<Duration>,
}

impl Policy {
    /// What follows from an outcome, after `failure_count` settled failures before it.
    pub fn decide(&self, failure_count: u32, outcome: &Outcome, rng: &mut impl Rng) -> Decision {
        let wish = match *outcome {
            Outcome::Delivered { .. } => return Decision::of(Disposition::Delivered),
            Outcome::Rejected { status: GONE, .. } | Outcome::ResponseTooLarge { status: GONE } => {
                return Decision::of(Disposition::Dead(Reason::Gone));
            }
            Outcome::Rejected {
                status: 429 | 503,
                retry_after,
            } => retry_after,
            _ => None,
        };
        let failures = failure_count.saturating_add(1);
        if failures >= self.max_attempts {
            return Decision::of(Disposition::Dead(Reason::Exhausted));
        }
        let delay = self.delay(failures, rng);
        let granted = wish.map_or(Duration::ZERO, |wish| wish.min(self.retry_after_cap));
        Decision {
            // A Retry-After that is longer replaces the delay and takes no jitter.
            disposition: Disposition::RetryAfter(delay.max(granted)),
            cut_retry_after: wish.filter(|wish| *wish > self.retry_after_cap),
        }
    }

    /// The delay after the n-th failure, n from 1: uniform in `[d(n), 1.25 d(n)]`.
    pub fn delay(&self, n: u32, rng: &mut impl Rng) -> Duration {
        stretched(self.floor(n), jitter(rng))
    }

    /// `d(n) = min(cap, base * 2^(n-1))`, n from 1: the delay before jitter.
    pub fn floor(&self, n: u32) -> Duration {
        let doublings = n.saturating_sub(1);
        let factor = 1_u32.checked_shl(doublings);
        factor
            .and_then(|factor| self.base.checked_mul(factor))
            .map_or(self.cap, |d| d.min(self.cap))
    }

    /// The delay before jitter after the k-th abandonment in a row, k from 1: none at first, then `d(k - 1)`.
    pub fn abandoned_floor(&self, k: u32) -> Duration {
        if k <= 1 {
            Duration::ZERO
        } else {
            self.floor(k - 1)
        }
    }

    /// From the first attempt to `dead` if every answer is a failure that comes at once, without jitter.
    pub fn span(&self) -> Duration {
        (1..self.max_attempts)
            .map(|n| self.floor(n))
            .fold(Duration::ZERO, Duration::saturating_add)
    }
}

impl Decision {
    fn of(disposition: Disposition) -> Self {
        Self {
            disposition,
            cut_retry_after: None,
        }
    }
}

/// A draw from `[0, 1]`, the share of the jitter that a delay gets.
pub fn jitter(rng: &mut impl Rng) -> f64 {
    rng.random_range(0.0..=1.0)
}

/// A delay before jitter, stretched by a share of the jitter: in whole microseconds, as Postgres keeps them, rounded up so
/// that it is never early.
pub fn stretched(floor: Duration, share: f64) -> Duration {
    let micros = u64::try_from(floor.as_nanos().div_ceil(1_000)).unwrap_or(u64::MAX);
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of at most a quarter of a capped delay; fractions of a microsecond do not matter"
    )]
    let extra = (micros as f64 * JITTER * share.clamp(0.0, 1.0)) as u64;
    Duration::from_micros(micros.saturating_add(extra))
}

/// Adds to an answer's error that the cap cut its `Retry-After`.
pub fn note_cut(answer: &mut AttemptResult, decision: &Decision, cap: Duration) {
    if let Some(asked) = decision.cut_retry_after {
        answer.error = Some(format!(
            "Retry-After of {} s cut to RETRY_AFTER_CAP_SECONDS ({} s)",
            asked.as_secs(),
            cap.as_secs_f64()
        ));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    fn defaults() -> Policy {
        Policy {
            base: Duration::from_secs(2),
            cap: Duration::from_secs(3600),
            retry_after_cap: Duration::from_secs(86_400),
            max_attempts: 20,
            max_abandoned: 20,
        }
    }

    fn rejected(status: u16, retry_after: Option<u64>) -> Outcome {
        Outcome::Rejected {
            status,
            retry_after: retry_after.map(Duration::from_secs),
        }
    }

    #[test]
    fn the_default_floors_are_2_4_8_and_end_at_the_cap() {
        let floors =
            [1, 2, 3, 4, 11, 12, 13, 33, 34, u32::MAX].map(|n| defaults().floor(n).as_secs());
        assert_eq!(floors, [2, 4, 8, 16, 2048, 3600, 3600, 3600, 3600, 3600]);
        assert_eq!(defaults().span().as_secs(), 4094 + 8 * 3600); // 9 h 8 min
    }

    #[test]
    fn the_first_abandonment_is_due_at_once_and_the_second_after_the_first_delay() {
        let floors = [1, 2, 3, 4].map(|k| defaults().abandoned_floor(k).as_secs());
        assert_eq!(floors, [0, 2, 4, 8]);
    }

    #[test]
    fn each_outcome_has_its_disposition() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut decide =
            |failures, outcome| defaults().decide(failures, &outcome, &mut rng).disposition;
        assert_eq!(
            decide(19, Outcome::Delivered { status: 204 }),
            Disposition::Delivered
        );
        assert_eq!(
            decide(0, rejected(410, None)),
            Disposition::Dead(Reason::Gone)
        );
        assert_eq!(
            decide(0, Outcome::ResponseTooLarge { status: 410 }),
            Disposition::Dead(Reason::Gone)
        );
        assert_eq!(
            decide(19, rejected(500, None)),
            Disposition::Dead(Reason::Exhausted)
        );
        assert_eq!(
            decide(19, Outcome::Timeout),
            Disposition::Dead(Reason::Exhausted)
        );
        assert!(matches!(
            decide(18, Outcome::TargetRefused),
            Disposition::RetryAfter(_)
        ));
    }

    #[test]
    fn retry_after_replaces_a_shorter_delay_exactly_and_is_capped() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut decide = |outcome| defaults().decide(0, &outcome, &mut rng);
        let exactly = |s| Disposition::RetryAfter(Duration::from_secs(s));
        assert_eq!(decide(rejected(429, Some(60))).disposition, exactly(60));
        assert_eq!(decide(rejected(503, Some(60))).disposition, exactly(60));
        let cut = decide(rejected(503, Some(90_000)));
        assert_eq!(cut.disposition, exactly(86_400));
        assert_eq!(cut.cut_retry_after, Some(Duration::from_secs(90_000)));
        for shorter in [
            rejected(503, Some(1)),
            rejected(500, Some(60)),
            rejected(503, None),
        ] {
            let Disposition::RetryAfter(delay) = decide(shorter).disposition else {
                panic!("dead")
            };
            assert!((2.0..=2.5).contains(&delay.as_secs_f64()), "{delay:?}");
        }
    }

    prop_compose! {
        fn any_policy()(base in 1_u64..=86_400_000_000, cap in 1_u64..=604_800_000_000) -> Policy {
            Policy { base: Duration::from_micros(base), cap: Duration::from_micros(cap.max(base)), ..defaults() }
        }
    }

    proptest! {
        #[test]
        fn a_delay_is_never_under_d_nor_over_a_quarter_more(policy in any_policy(), n in any::<u32>(), seed in any::<u64>()) {
            let exact = policy.base.as_secs_f64() * 2_f64.powf(f64::from(n.max(1)) - 1.0);
            let d = exact.min(policy.cap.as_secs_f64());
            let delay = policy.delay(n, &mut StdRng::seed_from_u64(seed)).as_secs_f64();
            prop_assert!(delay >= d - 1e-6 && delay <= 1.25 * d + 1e-6, "{delay} for d = {d}");
            prop_assert!(policy.delay(n, &mut StdRng::seed_from_u64(seed)) >= policy.floor(n));
        }

        #[test]
        fn delays_spread_over_the_whole_interval(n in 1_u32..40, seed in any::<u64>()) {
            let mut rng = StdRng::seed_from_u64(seed);
            let d = defaults().floor(n).as_secs_f64();
            let mut tenths = [false; 10];
            for _ in 0..500 {
                let share = (defaults().delay(n, &mut rng).as_secs_f64() / d - 1.0) / 0.25;
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 10")]
                let tenth = (share * 10.0) as usize;
                tenths[tenth.min(9)] = true;
            }
            prop_assert_eq!(tenths, [true; 10]);
        }

        #[test]
        fn no_wish_of_a_receiver_shortens_a_delay(n in 0_u32..19, wish in any::<u64>(), seed in any::<u64>()) {
            let outcome = rejected(503, Some(wish));
            let decision = defaults().decide(n, &outcome, &mut StdRng::seed_from_u64(seed));
            let Disposition::RetryAfter(delay) = decision.disposition else { panic!("dead") };
            prop_assert!(delay >= defaults().floor(n + 1));
            prop_assert!(delay <= Duration::from_secs(86_400));
        }
    }
}
