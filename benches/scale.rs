//! `GROWTH_SCALE`: the share of the full durations and fills that a run of `growth` uses.

use std::time::Duration;

use anyhow::Context;

/// The variable.
const VARIABLE: &str = "GROWTH_SCALE";
/// Share for `--test`.
const OF_TEST: f64 = 0.000_2;
/// Fewest rows or targets of a case.
const COUNT_MIN: usize = 16;

/// A share above 0 and up to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale(f64);

impl Scale {
    /// Reads the variable. A test has a small scale of its own.
    ///
    /// # Errors
    /// If the variable is no number above 0 and up to 1.
    pub fn of_process(is_test: bool) -> anyhow::Result<Self> {
        match std::env::var(VARIABLE) {
            _ if is_test => Ok(Self(OF_TEST)),
            Ok(given) => Self::parse(&given),
            Err(_) => Ok(Self(1.0)),
        }
    }

    fn parse(given: &str) -> anyhow::Result<Self> {
        let share: Option<f64> = given.parse().ok();
        let share = share.filter(|share| *share > 0.0 && *share <= 1.0).with_context(|| {
            format!(
                "{VARIABLE}={given} is not a share: set a number above 0 and up to 1, or unset it"
            )
        })?;
        Ok(Self(share))
    }

    /// The share of a number of rows or targets.
    pub fn count(self, full: usize) -> usize {
        ((full as f64 * self.0) as usize).max(COUNT_MIN)
    }

    /// The share of a duration.
    pub fn time(self, full: Duration) -> Duration {
        full.mul_f64(self.0)
    }

    /// The remark above the table. Empty for the full scale.
    pub fn remark(self) -> String {
        if self.0 < 1.0 { format!("{VARIABLE}={}; ", self.0) } else { String::new() }
    }
}

/// A duration in the unit that suits it.
pub fn duration_text(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds >= 60.0 { format!("{:.0} min", seconds / 60.0) } else { format!("{seconds:.1} s") }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

    use super::*;

    #[test]
    fn scale_shortens_durations_and_fills() {
        let tenth = Scale::parse("0.1").unwrap();
        assert_eq!(tenth.count(10_000_000), 1_000_000);
        assert_eq!(duration_text(tenth.time(Duration::from_secs(600))), "1 min");
        assert_eq!(tenth.remark(), "GROWTH_SCALE=0.1; ");
        assert_eq!(Scale::parse("1").unwrap().remark(), "");
    }

    #[test]
    fn scale_outside_its_range_is_refused() {
        for given in ["0", "1.5", "-1", "NaN", "half"] {
            assert!(
                Scale::parse(given).unwrap_err().to_string().contains("GROWTH_SCALE"),
                "{given}"
            );
        }
    }
}
