//! The figures of a benchmark, collected while Criterion measures, and the table at the end.

use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::time::Duration;

use crate::sides::Shape;

/// A load of fewer events gives no useful rate.
const EVENTS_MIN: u64 = 200;

/// One measurement of each side, one immediately after the other.
#[derive(Clone, Copy, Debug)]
pub struct Pair {
    /// Rows that each side claimed.
    pub rows: u64,
    /// Time of the dispatcher.
    pub ours: Duration,
    /// Time of the reference.
    pub plain: Duration,
}

/// A load of events from post to settle.
#[derive(Clone, Copy, Debug, Default)]
pub struct EndToEnd {
    /// Events accepted and delivered.
    pub events: u64,
    /// Time from the first post to the last settle.
    pub elapsed: Duration,
    /// CPU time of the dispatcher.
    pub dispatcher: Duration,
    /// CPU time of Postgres. Zero if the benchmark cannot see its processes.
    pub postgres: Duration,
}

/// Minimum number of pairs for a median. With `--test`, Criterion measures fewer.
const PAIRS_MIN: usize = 3;

/// All figures of a benchmark.
#[derive(Debug, Default)]
pub struct Figures {
    comparisons: Vec<(Shape, Vec<Pair>)>,
    end_to_end: Vec<(String, EndToEnd)>,
    notes: Vec<String>,
}

impl Figures {
    /// Adds a measurement of both sides.
    pub fn pair(&mut self, shape: Shape, pair: Pair) {
        match self.comparisons.last_mut() {
            Some((last, pairs)) if *last == shape => pairs.push(pair),
            _ => self.comparisons.push((shape, vec![pair])),
        }
    }

    /// Adds a load to the sum under this name.
    pub fn load(&mut self, name: &str, load: EndToEnd) {
        if self.end_to_end.last().is_none_or(|(last, _)| last != name) {
            self.end_to_end.push((name.to_owned(), EndToEnd::default()));
        }
        if load.events >= EVENTS_MIN {
            let (_, sum) = self.end_to_end.last_mut().expect("the entry was added above");
            sum.events += load.events;
            sum.elapsed += load.elapsed;
            sum.dispatcher += load.dispatcher;
            sum.postgres += load.postgres;
        }
    }

    /// Adds a line of text.
    pub fn note(&mut self, note: String) {
        self.notes.push(note);
    }
}

/// The pair with the median ratio, as rows per second of each side and their ratio. Pairs that are
/// much smaller than the largest are from the warm-up and do not count.
fn median(pairs: &[Pair]) -> Option<(f64, f64, f64)> {
    if pairs.len() < PAIRS_MIN {
        return None;
    }
    let most = pairs.iter().map(|pair| pair.rows).max()?;
    let counted = pairs.iter().filter(|pair| pair.rows >= most / 4);
    let mut rates: Vec<_> = counted
        .map(|pair| {
            let (ours, plain) = (rate(pair.rows, pair.ours), rate(pair.rows, pair.plain));
            (ours, plain, ours / plain)
        })
        .collect();
    rates.sort_by(|a, b| a.2.total_cmp(&b.2));
    rates.get(rates.len() / 2).copied()
}

fn rate(count: u64, time: Duration) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a rate in a table needs no precision")]
    let count = count as f64;
    count / time.as_secs_f64()
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        for (settle, title) in [(false, "claim only"), (true, "claim, then settle")] {
            let shapes = self.comparisons.iter().filter(|(shape, _)| shape.settle == settle);
            let rows: Vec<_> = shapes
                .filter_map(|(shape, pairs)| Some((shape, median(pairs)?, pairs.len())))
                .collect();
            if rows.is_empty() {
                continue;
            }
            writeln!(
                text,
                "\n{title:<20}{:>9}{:>16}{:>16}{:>8}{:>8}",
                "workers", "dispatcher /s", "plain SQL /s", "ratio", "pairs"
            )?;
            for (shape, (ours, plain, ratio), pairs) in rows {
                writeln!(
                    text,
                    "  batch {:<12}{:>9}{ours:>16.0}{plain:>16.0}{ratio:>8.2}{pairs:>8}",
                    shape.batch, shape.workers
                )?;
            }
        }
        for (name, load) in self.end_to_end.iter().filter(|(_, load)| load.events > 0) {
            let each = |time: Duration| {
                time.as_secs_f64() * 1_000.0 / rate(load.events, Duration::from_secs(1))
            };
            writeln!(
                text,
                "\n{name}: {:.0} events/s delivered ({} events); CPU per event: \
                 dispatcher {:.3} ms + Postgres {:.3} ms = {:.3} ms",
                rate(load.events, load.elapsed),
                load.events,
                each(load.dispatcher),
                each(load.postgres),
                each(load.dispatcher + load.postgres),
            )?;
        }
        for note in &self.notes {
            writeln!(text, "\n{note}")?;
        }
        f.write_str(&text)
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
    fn median_ignores_small_pairs() {
        let pair = |rows, ours, plain| Pair {
            rows,
            ours: Duration::from_millis(ours),
            plain: Duration::from_millis(plain),
        };
        let pairs =
            [pair(1_000, 200, 100), pair(1_000, 100, 80), pair(1_000, 900, 90), pair(1, 1, 9)];
        let (ours, plain, ratio) = median(&pairs).expect("three pairs are large enough");
        assert!((ours - 5_000.0).abs() < 1.0 && (plain - 10_000.0).abs() < 1.0);
        assert!((ratio - 0.5).abs() < 1e-9);
        assert_eq!(median(&[]), None);
    }
}
