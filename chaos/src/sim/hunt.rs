//! Hunting mutants: how many seeds until the predicted invariant kills one, and how often it does.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::mutant::{MUTANTS, Specimen};
use super::run::Simulator;
use super::schedule::{SimSchedule, Size};
use crate::seed::Seed;

/// What became of a mutant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hunt {
    /// Seeds that were run.
    pub seeds: u64,
    /// The first of them, from 1, that the predicted checker called invalid.
    pub killed_at: Option<u64>,
    /// How many of them it called invalid.
    pub kills: u64,
    /// What else called any of them invalid.
    pub others: BTreeSet<String>,
}

/// Runs seeds from `first` until the predicted checker has killed the mutant, or `least` of them when
/// that are more; never more than its budget or `least`.
#[must_use]
pub fn hunt(specimen: &Specimen, first: Seed, least: u64) -> Hunt {
    let simulator = Simulator::new();
    let mut hunt = Hunt::default();
    let most = specimen.budget.max(least);
    while hunt.seeds < most && (hunt.killed_at.is_none() || hunt.seeds < least) {
        let seed = first.plus(hunt.seeds);
        let schedule = Arc::new(SimSchedule::generate(seed, Size::default()));
        hunt.seeds += 1;
        for finding in simulator.run(&schedule, Some(specimen.mutant)).findings() {
            if !finding.verdict.is_invalid() {
                continue;
            }
            if finding.checker == specimen.killer {
                hunt.kills += 1;
                hunt.killed_at.get_or_insert(hunt.seeds);
            } else {
                hunt.others.insert(finding.checker);
            }
        }
    }
    hunt
}

/// The table of all mutants, in Markdown: each over `seeds` seeds from `first`.
#[must_use]
pub fn table(first: Seed, seeds: u64) -> String {
    let mut text = format!(
        "| mutant | killed by | first at seed | of {seeds} seeds | also by |\n|---|---|---|---|---|\n"
    );
    for specimen in MUTANTS {
        let hunt = hunt(specimen, first, seeds);
        let at = hunt
            .killed_at
            .map_or("never".to_owned(), |seed| seed.to_string());
        let share = hunt.kills * 100 / hunt.seeds.max(1);
        let others: Vec<String> = hunt.others.into_iter().collect();
        text += &format!(
            "| {} | `{}` | {at} | {share} % | {} |\n",
            specimen.name,
            specimen.killer,
            others.join(", ")
        );
    }
    text
}
