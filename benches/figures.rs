//! Pairs of measurements: ours and the reference, one immediately after the other.
//!
//! A busy machine slows both, so the median of the ratios is stable when the rates are not.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use crate::table::{Goal, Reference, Row, Unit};

/// One measurement of each side.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair {
    /// Our figure.
    pub ours: f64,
    /// The figure of the reference. `None` if it was not measured.
    pub reference: Option<f64>,
}

/// All pairs of one row.
#[derive(Clone, Debug)]
pub struct Pairs {
    /// Name of the row.
    pub name: String,
    /// Name of the reference.
    pub reference: &'static str,
    /// The goal, if there is one.
    pub goal: Option<Goal>,
    /// The pairs.
    pub pairs: Vec<Pair>,
}

impl Pairs {
    /// Removes the first pair if there are others. It is from a warm-up, in which connections are
    /// opened and statements are prepared.
    #[must_use]
    pub fn without_warm_up(mut self) -> Self {
        if self.pairs.len() > 1 {
            self.pairs.remove(0);
        }
        self
    }

    /// The row of the median pair, as rates. `None` without a pair.
    pub fn row(&self) -> Option<Row> {
        let mut sorted = self.pairs.clone();
        let key = |pair: &Pair| pair.reference.map_or(pair.ours, |reference| pair.ours / reference);
        sorted.sort_by(|a, b| key(a).total_cmp(&key(b)));
        let median = sorted.get(sorted.len() / 2)?;
        Some(Row {
            name: self.name.clone(),
            unit: Unit::PerSecond,
            ours: median.ours,
            reference: median.reference.map(|value| Reference { name: self.reference, value }),
            goal: self.goal,
            rounds: sorted.len(),
        })
    }
}

/// A number per second.
pub fn rate(count: u64, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

/// The value at this share of the sorted values, from 0 to 1. NaN without a value.
pub fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1) as f64;
    values.get((last * share) as usize).copied().unwrap_or(f64::NAN)
}

/// Prints an error as one line and returns the code of the process.
pub fn exit_code(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Prints a line. A reader that closed the pipe does not end the benchmark.
pub fn print_line(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_is_the_pair_with_the_median_ratio() {
        let pair = |ours, reference| Pair { ours, reference: Some(reference) };
        let pairs = Pairs {
            name: String::new(),
            reference: "plain SQL",
            goal: None,
            pairs: vec![
                pair(1.0, 100.0),
                pair(5_000.0, 10_000.0),
                pair(10_000.0, 12_500.0),
                pair(1_000.0, 10_000.0),
            ],
        }
        .without_warm_up();
        let row = pairs.row().expect("there are pairs");
        assert!((row.ours - 5_000.0).abs() < 1.0 && (row.ratio() - 0.5).abs() < 1e-9);
        assert_eq!(row.rounds, 3);
        assert_eq!(Pairs { pairs: Vec::new(), ..pairs }.row(), None);
    }

    #[test]
    fn quantile_is_one_of_the_values() {
        let mut values = [4.0, 1.0, 3.0, 2.0, 5.0];
        let found = [0.0, 0.5, 0.99, 1.0].map(|share| quantile(&mut values, share));
        assert_eq!(found, [1.0, 3.0, 4.0, 5.0]);
        assert!(quantile(&mut [], 0.5).is_nan());
    }
}
