//! The facts about a run that are not in its history.

use std::collections::BTreeMap;

use serde::Serialize;

/// The tier of runs with real processes.
pub const TIER: &str = "B";

/// The facts about a run that are not in its history. The manifest contains them.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Context {
    /// The commit of the checkout, with `+dirty` if files differ from it.
    pub git: String,
    /// The command line.
    pub argv: Vec<String>,
    /// The command that repeats the run.
    pub repeat: String,
    /// The driver and the program that it runs.
    pub system: String,
    /// The source and version of Postgres.
    pub postgres: String,
    /// The durability settings that Postgres reported.
    pub durability: BTreeMap<String, String>,
    /// Kernel and number of processors.
    pub host: BTreeMap<String, String>,
    /// The kinds of fault that this machine cannot run, each with the reason.
    pub unavailable: BTreeMap<String, String>,
    /// The parts that the run skipped, each with the reason.
    pub skipped: Vec<String>,
    /// The reason why the run has no audit; `None` if it has one.
    pub audit_missing: Option<String>,
}
