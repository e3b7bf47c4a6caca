//! The run environment: the directory, the databases and the server that a run uses.
//!
//! A leaf module, because the runner, the nemesis and the commands share these types. It starts
//! nothing: `command/stores.rs` obtains the servers.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::history::op::Section;
use crate::postgres::OwnServer;

/// The inputs of a run that are not in its schedule.
#[derive(Debug)]
pub struct RunEnvironment {
    /// The directory for the files of the run. It exists and is empty.
    pub dir: PathBuf,
    /// The database URL of each section. A system without a database has no entry.
    pub databases: BTreeMap<Section, String>,
    /// The Postgres server of the main section.
    pub server: Server,
}

/// The Postgres server of the main section.
#[derive(Debug)]
pub enum Server {
    /// A server that only this run uses. Faults may stop it.
    Own(OwnServer),
    /// A server that other clients use too. Faults of Postgres are skipped.
    Shared {
        /// The reason why the run has no server of its own.
        reason: String,
    },
}
