//! `chaos list`: profiles, faults, checkers, saboteurs and drivers, with those that this machine
//! cannot run.
//!
//! It starts nothing. It checks whether a driver and a source of a Postgres server are available.

use super::output::say;
use super::unavailable::unavailable;
use crate::checker::CHECKERS;
use crate::nemesis::KINDS;
use crate::postgres::{Postgres, Wanted};
use crate::profile::named::PROFILES;
use crate::saboteur::SABOTEURS;

/// Prints the catalogue. Returns exit code 0.
pub async fn list() -> u8 {
    heading("profiles");
    for (name, what) in PROFILES {
        item(name, what);
    }
    heading("faults");
    let unavailable = unavailable(&Wanted::Any).await;
    for kind in KINDS {
        match unavailable.get(kind.name) {
            Some(why) => item(kind.name, &format!("{} (not here: {why})", kind.about)),
            None => item(kind.name, kind.about),
        }
    }
    heading("checkers");
    for checker in CHECKERS {
        let about = format!("{} (judges: {})", checker.invariant, checker.when.about);
        item(checker.name, &about);
    }
    heading("saboteurs");
    for saboteur in SABOTEURS {
        let about = format!("{} (detected by {})", saboteur.description, saboteur.detected_by);
        item(saboteur.name, &about);
    }
    heading("drivers");
    item("process", "available");
    item("container", &availability(container().await));
    heading("sources of a Postgres server");
    for (way, available) in Postgres::available_sources().await {
        item(way, &availability(available));
    }
    item("downloaded", "not checked: a run downloads it if it needs it");
    0
}

#[cfg(feature = "docker")]
async fn container() -> Result<(), String> {
    crate::system::ContainerSystem::available().await
}

#[cfg(not(feature = "docker"))]
#[expect(clippy::unused_async, reason = "the other build has to wait")]
async fn container() -> Result<(), String> {
    Err("this build has no container driver (feature docker)".to_owned())
}

fn availability(available: Result<(), String>) -> String {
    match available {
        Ok(()) => "available".to_owned(),
        Err(why) => format!("not here: {why}"),
    }
}

fn heading(text: &str) {
    say(&format!("{text}:"));
}

fn item(name: &str, text: &str) {
    say(&format!("  {name:<28}{text}"));
}
