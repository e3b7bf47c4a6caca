//! What can go wrong with a cluster of our own, and what to do about it.

use std::path::PathBuf;

use super::super::binaries::Binaries;

/// What went wrong with an own cluster.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MachineError {
    #[error("{0}")]
    Account(String),
    #[error("{doing} {}: {source}", path.display())]
    Files {
        doing: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("initdb failed: {0}")]
    Initdb(String),
    #[error("{} is held by a live server, process {pid}", path.display())]
    Held { path: PathBuf, pid: u32 },
    #[error("{} was made by PostgreSQL {found}, the binaries here are {ours}", path.display())]
    Version {
        path: PathBuf,
        found: String,
        ours: String,
    },
    #[error("the postmaster, process {pid}, does not end")]
    Undying { pid: u32 },
    #[error("the server did not start: {why}\n{log}")]
    Start { why: String, log: String },
}

impl MachineError {
    /// What a person can do about it.
    pub(crate) fn fix(&self, binaries: &Binaries) -> String {
        match self {
            Self::Account(_) => "make an account named postgres, or do not run as root".to_owned(),
            Self::Files { .. } => {
                "see whether the directory can be written and has room".to_owned()
            }
            Self::Initdb(_) => format!(
                "run {} by hand: it tells more",
                binaries.program("initdb").display()
            ),
            Self::Held { pid, .. } | Self::Undying { pid } => {
                format!("end process {pid}, or use another directory")
            }
            Self::Version { found, .. } => {
                format!("set PG_BIN to the binaries of PostgreSQL {found}, or forget the data")
            }
            Self::Start { .. } => "the server's own words are above".to_owned(),
        }
    }
}
