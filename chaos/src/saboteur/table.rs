//! The tables of `docs/checkers.md`, written from the registers.

use std::fmt::Write as _;

use super::{SABOTEURS, Saboteur};
use crate::checker::{AUDIT_CHECKERS, CHECKERS, Checker, PLANNED_CHECKERS};
use crate::sim::mutant::table::MUTANTS;

/// Every checker with what it catches at work.
#[must_use]
pub fn checkers() -> String {
    let mut text = String::from(
        "| Checker | Kind | Invariant | Saboteurs | Mutants of the simulation |\n\
         |---|---|---|---|---|\n",
    );
    let planned = PLANNED_CHECKERS.iter().map(|(checker, _)| checker);
    for checker in CHECKERS.iter().chain(planned).chain(AUDIT_CHECKERS) {
        let Checker {
            name, invariant, ..
        } = checker;
        let kind = format!("{:?}", checker.kind).to_lowercase();
        let saboteurs = SABOTEURS.iter().filter(|s| s.caught_by == *name);
        let saboteurs = listed(saboteurs.map(|s| format!("`{}`", s.name)));
        let mutants = MUTANTS.iter().filter(|m| m.detected_by == *name);
        let mutants = listed(mutants.map(|m| format!("`{}`", m.name)));
        row(
            &mut text,
            &[&format!("`{name}`"), &kind, invariant, &saboteurs, &mutants],
        );
    }
    text
}

/// Every saboteur with who must catch it, and within what.
#[must_use]
pub fn saboteurs() -> String {
    let mut text = String::from(
        "| Saboteur | What it does | Must be caught by | May be caught by, too | Within |\n\
         |---|---|---|---|---|\n",
    );
    for Saboteur {
        name,
        what,
        caught_by,
        also_caught_by,
        budget,
        ..
    } in SABOTEURS
    {
        let also = listed(also_caught_by.iter().map(|checker| format!("`{checker}`")));
        let fault = budget
            .fault
            .map_or(String::new(), |kind| format!(", two `{}`", kind.name));
        let slots = budget.slots.map_or(String::new(), |(in_all, to_one_host)| {
            format!(", {in_all} slots and {to_one_host} of them to one host")
        });
        let within = format!(
            "{} events in {} ms, {} worker{}{slots}{fault}",
            budget.events,
            budget.storm_ms,
            budget.workers,
            if budget.workers == 1 { "" } else { "s" }
        );
        let (name, by) = (format!("`{name}`"), format!("`{caught_by}`"));
        row(&mut text, &[&name, what, &by, &also, &within]);
    }
    text
}

fn row(text: &mut String, cells: &[&str]) {
    writeln!(text, "| {} |", cells.join(" | ")).expect("a string takes everything");
}

fn listed(names: impl Iterator<Item = String>) -> String {
    let names: Vec<String> = names.collect();
    if names.is_empty() {
        return "–".to_owned();
    }
    names.join(", ")
}
