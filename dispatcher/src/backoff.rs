//! The retry rule: the disposition after an attempt, and the delays after abandoned attempts.
//!
//! Pure: policy, counts, outcome and RNG are inputs. Only this file knows the jitter. The store and
//! the model of the simulation get computed delays and factors.

use std::time::Duration;

use rand::{Rng, RngExt};

use crate::event::{AttemptResult, Disposition, Outcome, Reason};

/// Jitter adds at most this fraction to a delay.
const JITTER: f64 = 0.25;

/// HTTP status with which a target ends an event.
const GONE: u16 = 410;

/// The settings of the retry rule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Policy {
    /// `BACKOFF_BASE_SECONDS`: the delay after the first failure, before jitter.
    pub base: Duration,
    /// `BACKOFF_CAP_SECONDS`: maximum delay before jitter.
    pub cap: Duration,
    /// `RETRY_AFTER_CAP_SECONDS`: maximum delay that `Retry-After` may request.
    pub retry_after_cap: Duration,
    /// `MAX_ATTEMPTS`: number of settled failures that makes an event dead.
    pub max_attempts: u32,
    /// `MAX_ABANDONED`: number of consecutive abandoned attempts that makes an event dead.
    pub max_abandoned: u32,
}

impl Policy {
    /// Decides after an attempt. `failure_count` is the number of settled failures before it. If
    /// the cap cuts `Retry-After`, states both in the error of the result.
    pub fn decide(
        &self,
        failure_count: u32,
        result: &mut AttemptResult,
        rng: &mut impl Rng,
    ) -> Disposition {
        let requested = match result.outcome {
            Outcome::Delivered { .. } => return Disposition::Delivered,
            Outcome::Rejected { status: GONE, .. } | Outcome::ResponseTooLarge { status: GONE } => {
                return Disposition::Dead(Reason::Gone);
            }
            Outcome::Rejected { status: 429 | 503, retry_after } => retry_after,
            _ => None,
        };
        let failures = failure_count.saturating_add(1);
        if failures >= self.max_attempts {
            return Disposition::Dead(Reason::Exhausted);
        }
        let (requested, cap) = (requested.unwrap_or_default(), self.retry_after_cap);
        if requested > cap {
            let (seconds, max) = (requested.as_secs(), cap.as_secs_f64());
            let error =
                format!("Retry-After of {seconds} s cut to RETRY_AFTER_CAP_SECONDS ({max} s)");
            result.error = Some(error);
        }
        // A longer Retry-After replaces the delay and gets no jitter.
        Disposition::RetryAfter(self.delay(failures, rng).max(requested.min(cap)))
    }

    /// Returns the delay after the n-th failure, n from 1: uniform in `[d(n), 1.25 d(n)]`.
    pub fn delay(&self, n: u32, rng: &mut impl Rng) -> Duration {
        stretched(self.floor(n), jitter_factor(rng))
    }

    /// Returns the delay before jitter, `d(n) = min(cap, base * 2^(n-1))`, n from 1.
    pub fn floor(&self, n: u32) -> Duration {
        let factor = 1_u32.checked_shl(n.saturating_sub(1));
        factor.map_or(self.cap, |factor| self.base.saturating_mul(factor).min(self.cap))
    }

    /// Returns the delays before jitter after consecutive abandonments: zero after the first, then
    /// `d(k - 1)` after the k-th. One more abandonment makes the event dead.
    pub fn abandoned_floors(&self) -> Vec<Duration> {
        let after = |k| if k == 1 { Duration::ZERO } else { self.floor(k - 1) };
        (1..self.max_abandoned).map(after).collect()
    }

    /// Returns the time from the first attempt to `dead` if every attempt fails immediately,
    /// without jitter.
    pub fn span(&self) -> Duration {
        (1..self.max_attempts).map(|n| self.floor(n)).fold(Duration::ZERO, Duration::saturating_add)
    }
}

/// Draws the factor that jitter multiplies a delay by: uniform in `[1, 1.25]`.
pub fn jitter_factor(rng: &mut impl Rng) -> f64 {
    1.0 + JITTER * rng.random_range(0.0..=1.0)
}

/// Multiplies a delay by a jitter factor. The result is in microseconds, the resolution of
/// Postgres, and at least the delay.
fn stretched(floor: Duration, factor: f64) -> Duration {
    let micros = u64::try_from(floor.as_nanos().div_ceil(1_000)).unwrap_or(u64::MAX);
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "at most a quarter of a capped delay; fractions of a microsecond do not matter"
    )]
    let extra = (micros as f64 * (factor - 1.0)) as u64;
    Duration::from_micros(micros.saturating_add(extra))
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

    fn result(outcome: Outcome) -> AttemptResult {
        AttemptResult { outcome, error: None, snippet: None }
    }

    fn rejected(status: u16, retry_after: Option<u64>) -> Outcome {
        Outcome::Rejected { status, retry_after: retry_after.map(Duration::from_secs) }
    }

    #[test]
    fn default_delays_double_from_2_s_to_the_cap() {
        let floors =
            [1, 2, 3, 4, 11, 12, 13, 33, 34, u32::MAX].map(|n| defaults().floor(n).as_secs());
        assert_eq!(floors, [2, 4, 8, 16, 2048, 3600, 3600, 3600, 3600, 3600]);
        assert_eq!(defaults().span().as_secs(), 4094 + 8 * 3600); // 9 h 8 min
    }

    #[test]
    fn only_the_first_abandonment_has_no_delay() {
        let policy = Policy { max_abandoned: 5, ..defaults() };
        let floors = policy.abandoned_floors();
        assert_eq!(floors, [0, 2, 4, 8].map(Duration::from_secs));
    }

    #[test]
    fn outcome_and_failure_count_decide_the_disposition() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut decide =
            |failures, outcome| defaults().decide(failures, &mut result(outcome), &mut rng);
        assert_eq!(decide(19, Outcome::Delivered { status: 204 }), Disposition::Delivered);
        assert_eq!(decide(0, rejected(410, None)), Disposition::Dead(Reason::Gone));
        assert_eq!(
            decide(0, Outcome::ResponseTooLarge { status: 410 }),
            Disposition::Dead(Reason::Gone)
        );
        assert_eq!(decide(19, rejected(500, None)), Disposition::Dead(Reason::Exhausted));
        assert_eq!(decide(19, Outcome::Timeout), Disposition::Dead(Reason::Exhausted));
        assert!(matches!(decide(18, Outcome::TargetRefused), Disposition::RetryAfter(_)));
    }

    #[test]
    fn retry_after_replaces_a_shorter_delay_up_to_the_cap() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut decide = |outcome| {
            let mut result = result(outcome);
            (defaults().decide(0, &mut result, &mut rng), result.error)
        };
        let exactly = |s| Disposition::RetryAfter(Duration::from_secs(s));
        assert_eq!(decide(rejected(429, Some(60))), (exactly(60), None));
        assert_eq!(decide(rejected(503, Some(60))), (exactly(60), None));
        let cut = "Retry-After of 90000 s cut to RETRY_AFTER_CAP_SECONDS (86400 s)".to_owned();
        assert_eq!(decide(rejected(503, Some(90_000))), (exactly(86_400), Some(cut)));
        for shorter in [rejected(503, Some(1)), rejected(500, Some(60)), rejected(503, None)] {
            let Disposition::RetryAfter(delay) = decide(shorter).0 else { panic!("dead") };
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
        fn delay_is_between_d_and_a_quarter_more(policy in any_policy(), n in any::<u32>(), seed in any::<u64>()) {
            let exact = policy.base.as_secs_f64() * 2_f64.powf(f64::from(n.max(1)) - 1.0);
            let d = exact.min(policy.cap.as_secs_f64());
            let delay = policy.delay(n, &mut StdRng::seed_from_u64(seed)).as_secs_f64();
            prop_assert!(delay >= d - 1e-6 && delay <= 1.25 * d + 1e-6, "{delay} for d = {d}");
            prop_assert!(policy.delay(n, &mut StdRng::seed_from_u64(seed)) >= policy.floor(n));
        }

        #[test]
        fn delays_cover_the_whole_interval(n in 1_u32..40, seed in any::<u64>()) {
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
        fn requested_delay_never_shortens_a_delay(n in 0_u32..19, requested in any::<u64>(), seed in any::<u64>()) {
            let mut result = result(rejected(503, Some(requested)));
            let decided = defaults().decide(n, &mut result, &mut StdRng::seed_from_u64(seed));
            let Disposition::RetryAfter(delay) = decided else { panic!("dead") };
            prop_assert!(delay >= defaults().floor(n + 1));
            prop_assert!(delay <= Duration::from_secs(86_400));
        }
    }
}
