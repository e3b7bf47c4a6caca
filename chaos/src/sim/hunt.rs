//! Measures the number of seeds until the predicted checker detects a mutant.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::mutant::table::{MUTANTS, MutantSpec};
use super::run::Simulator;
use super::schedule::{SimSchedule, Size};
use crate::seed::Seed;

/// The detections of one mutant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hunt {
    /// Number of executed seeds.
    pub seeds: u64,
    /// Number of the first seed, from 1, in which the predicted checker detected the mutant.
    pub detected_at: Option<u64>,
    /// Number of seeds in which the predicted checker detected the mutant.
    pub detections: u64,
    /// Other checkers that called a run invalid.
    pub others: BTreeSet<String>,
}

/// Runs seeds from `first` until the predicted checker has detected the mutant. Runs at least
/// `least` seeds, and at most the larger one of `least` and the budget.
#[must_use]
pub fn hunt(spec: &MutantSpec, first: Seed, least: u64) -> Hunt {
    let simulator = Simulator::new();
    let mut hunt = Hunt::default();
    let most = spec.budget.max(least);
    while hunt.seeds < most && (hunt.detected_at.is_none() || hunt.seeds < least) {
        let seed = first.plus(hunt.seeds);
        let schedule = Arc::new(SimSchedule::generate(seed, Size::default()));
        hunt.seeds += 1;
        for finding in simulator.run(&schedule, Some(spec.mutant)).findings() {
            if !finding.verdict.is_invalid() {
                continue;
            }
            if finding.checker == spec.detected_by {
                hunt.detections += 1;
                hunt.detected_at.get_or_insert(hunt.seeds);
            } else {
                hunt.others.insert(finding.checker);
            }
        }
    }
    hunt
}

/// Runs every mutant with `seeds` seeds from `first`. Returns a table in Markdown.
#[must_use]
pub fn table(first: Seed, seeds: u64) -> String {
    let mut text = format!(
        "| mutant | detected by | first at seed | of {seeds} seeds | also by |\n|---|---|---|---|---|\n"
    );
    for spec in MUTANTS {
        let hunt = hunt(spec, first, seeds);
        let at = hunt.detected_at.map_or("never".to_owned(), |seed| seed.to_string());
        let share = hunt.detections * 100 / hunt.seeds.max(1);
        let others: Vec<String> = hunt.others.into_iter().collect();
        text += &format!(
            "| {} | `{}` | {at} | {share} % | {} |\n",
            spec.name,
            spec.detected_by,
            others.join(", ")
        );
    }
    text
}
