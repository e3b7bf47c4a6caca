//! Errors of a server from binaries, with their fixes.

use std::path::PathBuf;

use super::super::binaries::Binaries;

/// Preparing, starting or ending a server failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MachineError {
    #[error("{0}")]
    Account(String),
    #[error("{operation} {}: {source}", path.display())]
    Files { operation: &'static str, path: PathBuf, source: std::io::Error },
    #[error("initdb failed: {0}")]
    Initdb(String),
    #[error("{} is in use by a running server, process {pid}", path.display())]
    Held { path: PathBuf, pid: u32 },
    #[error(
        "{} was created by PostgreSQL {found}, but the binaries are version {available}",
        path.display()
    )]
    Version { path: PathBuf, found: String, available: String },
    #[error("the postmaster, process {pid}, does not end after a signal")]
    Undying { pid: u32 },
    #[error("the server did not start: {reason}\n{log}")]
    Start { reason: String, log: String },
}

impl MachineError {
    /// Returns the change that makes the operation work.
    pub(crate) fn fix(&self, binaries: &Binaries) -> String {
        match self {
            Self::Account(_) => {
                "create an account named postgres, or do not run as root".to_owned()
            }
            Self::Files { .. } => {
                "check that the directory is writable and has free space".to_owned()
            }
            Self::Initdb(_) => {
                format!("run {} to see its complete output", binaries.program("initdb").display())
            }
            Self::Held { pid, .. } | Self::Undying { pid } => {
                format!("end process {pid}, or use another directory")
            }
            Self::Version { found, .. } => {
                format!("set PG_BIN to the binaries of PostgreSQL {found}, or delete the data")
            }
            Self::Start { .. } => "read the end of the server's log above".to_owned(),
        }
    }
}
