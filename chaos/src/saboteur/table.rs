//! The tables of `docs/checkers.md`, printed from the lists of checkers, saboteurs and mutants.

use std::fmt::Write as _;

use super::lies::{SABOTEURS, Saboteur};
use crate::checker::{CHECKERS, Checker, Need};
use crate::sim::mutant::table::MUTANTS;

/// Returns the table of checkers with the saboteurs and mutants that each must detect.
pub fn checkers() -> String {
    let mut text = String::from(
        "| Checker | Property | When | Needs | Invariant | Saboteurs | Mutants of the simulation |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for checker in CHECKERS {
        let Checker { name, invariant, .. } = checker;
        let property = format!("{:?}", checker.property).to_lowercase();
        let needs = listed(checker.needs.iter().map(Need::to_string));
        let saboteurs = SABOTEURS.iter().filter(|s| s.detected_by == *name);
        let saboteurs = listed(saboteurs.map(|s| format!("`{}`", s.name)));
        let mutants = MUTANTS.iter().filter(|m| m.detected_by == *name);
        let mutants = listed(mutants.map(|m| format!("`{}`", m.name)));
        let (name, when) = (format!("`{name}`"), checker.when.about);
        row(&mut text, &[&name, &property, when, &needs, invariant, &saboteurs, &mutants]);
    }
    text
}

/// Returns the table of saboteurs with the checkers that detect them and the size of the run.
pub fn saboteurs() -> String {
    let mut text = String::from(
        "| Saboteur | Misbehavior | Detected by | Also | Run |\n\
         |---|---|---|---|---|\n",
    );
    for Saboteur { name, description, detected_by, also, budget, .. } in SABOTEURS {
        let also = listed(also.iter().map(|checker| format!("`{checker}`")));
        let fault = budget.fault.map_or(String::new(), |kind| format!(", two `{}`", kind.name));
        let permits = budget.permits.map_or(String::new(), |permits| {
            format!(", {} permits of which {} per host", permits.total, permits.per_host)
        });
        let exact = budget.exact.map_or(String::new(), |exact| {
            format!("; one `{}` {}", exact.kind().name, exact.about())
        });
        let database = if budget.database { " with a database" } else { "" };
        let run = format!(
            "{} events in {} ms, {} worker{}{database}{permits}{fault}{exact}",
            budget.events,
            budget.storm_ms,
            budget.workers,
            if budget.workers == 1 { "" } else { "s" }
        );
        let (name, by) = (format!("`{name}`"), format!("`{detected_by}`"));
        row(&mut text, &[&name, description, &by, &also, &run]);
    }
    text
}

fn row(text: &mut String, cells: &[&str]) {
    writeln!(text, "| {} |", cells.join(" | ")).expect("writing to a string cannot fail");
}

fn listed(names: impl Iterator<Item = String>) -> String {
    let names: Vec<String> = names.collect();
    if names.is_empty() {
        return "–".to_owned();
    }
    names.join(", ")
}
