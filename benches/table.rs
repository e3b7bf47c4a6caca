//! The table of a benchmark in Markdown: each figure beside its reference, its goal and its floor.
//!
//! The table is printed and saved in one form, so that no figure in a document is typed by hand.

use std::fmt;

/// One figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Name of the measurement.
    pub name: String,
    /// Unit of the figure and of its reference.
    pub unit: Unit,
    /// The figure. NaN if it could not be measured.
    pub ours: f64,
    /// The reference from the same run. `None` if it could not be measured.
    pub reference: Option<Reference>,
    /// The goal, if there is one.
    pub goal: Option<Goal>,
    /// Number of measurements.
    pub rounds: usize,
}

/// The figure with which ours is compared.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reference {
    /// Name of the reference.
    pub name: &'static str,
    /// Its figure.
    pub value: f64,
}

/// Units of the figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Events, rows or requests per second.
    PerSecond,
    /// Milliseconds.
    Ms,
    /// KiB.
    Kib,
    /// MiB.
    Mib,
    /// A number per event.
    PerEvent,
}

/// A goal and its floor. The figure has to be high if the goal is above the floor, else low.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Goal {
    of: Judged,
    goal: f64,
    floor: Option<f64>,
}

/// The figure that a goal is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Judged {
    Ratio,
    Value,
}

impl Goal {
    /// A goal of the ratio to the reference.
    pub const fn ratio(goal: f64, floor: f64) -> Self {
        Self { of: Judged::Ratio, goal, floor: Some(floor) }
    }

    /// A goal of the figure, in its unit.
    pub const fn value(goal: f64, floor: f64) -> Self {
        Self { of: Judged::Value, goal, floor: Some(floor) }
    }

    /// A lowest ratio to the reference, without a floor.
    pub const fn ratio_only(goal: f64) -> Self {
        Self { of: Judged::Ratio, goal, floor: None }
    }

    fn is_minimum(self) -> bool {
        self.floor.is_none_or(|floor| self.goal > floor)
    }

    fn result(self, figure: f64) -> &'static str {
        let meets = |limit: f64| {
            if self.is_minimum() { figure >= limit } else { figure <= limit }
        };
        match (figure.is_nan(), meets(self.goal), self.floor.is_some_and(meets)) {
            (true, ..) => "–",
            (_, true, _) => "goal met",
            (_, _, true) => "floor met",
            _ => "missed",
        }
    }

    fn text(self, limit: f64, unit: Unit) -> String {
        let sign = if self.is_minimum() { '≥' } else { '≤' };
        match self.of {
            Judged::Ratio => format!("{sign} {limit:.2}"),
            Judged::Value => format!("{sign} {}", unit.limit(limit)),
        }
    }
}

impl Unit {
    fn text(self, value: f64) -> String {
        if value.is_nan() {
            return "not visible".to_owned();
        }
        match self {
            Self::PerSecond => format!("{}/s", thousands(value)),
            Self::Ms => format!("{value:.3} ms"),
            Self::Kib => format!("{value:.2} KiB"),
            Self::Mib => format!("{value:.0} MiB"),
            Self::PerEvent => format!("{value:.3}"),
        }
    }

    fn limit(self, value: f64) -> String {
        match self {
            Self::Ms => format!("{value:.2} ms"),
            Self::Kib => format!("{value:.1} KiB"),
            Self::PerEvent => format!("{value:.2}"),
            Self::PerSecond | Self::Mib => self.text(value),
        }
    }
}

impl Row {
    /// The figure divided by its reference. NaN if one of them is unknown.
    pub fn ratio(&self) -> f64 {
        self.reference.map_or(f64::NAN, |reference| self.ours / reference.value)
    }

    fn cells(&self) -> [String; 8] {
        let none = || "–".to_owned();
        let reference = self.reference.map_or_else(none, |reference| {
            format!("{}: {}", reference.name, self.unit.text(reference.value))
        });
        let ratio = self.ratio();
        let limit = |pick: fn(Goal) -> Option<f64>| {
            let limit = self.goal.and_then(|goal| Some(goal.text(pick(goal)?, self.unit)));
            limit.unwrap_or_else(none)
        };
        let result = self.goal.map_or("–", |goal| match goal.of {
            Judged::Ratio => goal.result(ratio),
            Judged::Value => goal.result(self.ours),
        });
        [
            self.name.clone(),
            self.unit.text(self.ours),
            reference,
            if ratio.is_nan() { none() } else { format!("{ratio:.2}") },
            limit(|goal| Some(goal.goal)),
            limit(|goal| goal.floor),
            result.to_owned(),
            self.rounds.to_string(),
        ]
    }
}

const HEAD: [&str; 8] =
    ["Measurement", "Dispatcher", "Reference", "Ratio", "Goal", "Floor", "Result", "Rounds"];

/// The rows in the order of their measurement, below a line with the conditions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// Date, machine and server.
    pub conditions: String,
    /// The rows.
    pub rows: Vec<Row>,
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows: Vec<_> = self.rows.iter().map(Row::cells).collect();
        let mut widths = HEAD.map(|head| head.chars().count());
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let line = |cells: &[String; 8]| {
            let cells = cells.iter().zip(widths);
            let padded: Vec<_> = cells.map(|(cell, width)| format!("{cell:<width$}")).collect();
            format!("| {} |", padded.join(" | "))
        };
        writeln!(f, "{}\n", self.conditions)?;
        writeln!(f, "{}", line(&HEAD.map(str::to_owned)))?;
        writeln!(f, "|{}|", widths.map(|width| "-".repeat(width + 2)).join("|"))?;
        rows.iter().try_for_each(|row| writeln!(f, "{}", line(row)))
    }
}

/// A whole number with commas between groups of three digits.
fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(ours: f64, goal: Goal) -> Row {
        Row {
            name: "end to end".to_owned(),
            unit: Unit::PerSecond,
            ours,
            reference: Some(Reference { name: "B1", value: 20_000.0 }),
            goal: Some(goal),
            rounds: 10,
        }
    }

    #[test]
    fn table_is_markdown_with_a_ratio_per_row() {
        let rows = vec![row(13_000.0, Goal::ratio(0.65, 0.55))];
        let table = Table { conditions: "2 cores".to_owned(), rows }.to_string();
        let lines: Vec<_> = table.lines().collect();
        assert_eq!(lines[0], "2 cores");
        let cells: Vec<_> = lines[4].split('|').map(str::trim).collect();
        let wanted = ["", "end to end", "13,000/s", "B1: 20,000/s", "0.65", "≥ 0.65", "≥ 0.55"];
        assert_eq!(cells[..7], wanted);
        assert_eq!(cells[7..], ["goal met", "10", ""]);
        let width = |line: &str| line.chars().count();
        assert!(lines[2..].iter().all(|line| width(line) == width(lines[2])), "{table}");
    }

    #[test]
    fn goal_below_its_floor_is_a_maximum() {
        let cost = Goal::value(0.10, 0.12);
        assert_eq!(
            [0.09, 0.11, 0.13].map(|ms| cost.result(ms)),
            ["goal met", "floor met", "missed"]
        );
        let share = Goal::ratio(0.65, 0.55);
        assert_eq!([0.7, 0.6, 0.5].map(|of| share.result(of)), ["goal met", "floor met", "missed"]);
        assert_eq!(cost.text(0.12, Unit::Ms), "≤ 0.12 ms");
        let alone = Goal::ratio_only(0.93);
        assert_eq!([0.94, 0.92].map(|of| alone.result(of)), ["goal met", "missed"]);
    }

    #[test]
    fn unknown_figure_has_no_ratio_and_no_result() {
        let unseen = Row { reference: None, ..row(f64::NAN, Goal::value(0.1, 0.2)) };
        assert_eq!(unseen.cells()[1..4], ["not visible", "–", "–"]);
        assert_eq!(unseen.cells()[6], "–");
    }

    #[test]
    fn thousands_are_grouped() {
        let numbers = [0.0, 999.4, 1_000.0, 12_345.0, 1_234_567.0];
        assert_eq!(numbers.map(thousands), ["0", "999", "1,000", "12,345", "1,234,567"]);
    }
}
