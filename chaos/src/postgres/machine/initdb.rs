//! Creates a data directory with `initdb`, and checks that existing data fits the binaries.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::time::timeout;

use super::super::account::Account;
use super::super::binaries::Binaries;
use super::error::MachineError;

/// Owner role of the data.
pub(super) const ROLE: &str = "postgres";
/// Time limit of `initdb`, which writes about 40 MB and syncs them.
const INITDB_TIMEOUT: Duration = Duration::from_secs(180);

pub(super) async fn initdb(
    binaries: &Binaries,
    account: Option<&Account>,
    base: &Path,
    data: &Path,
) -> Result<(), MachineError> {
    // initdb writes to another directory, which is renamed. A killed initdb therefore does not
    // leave a directory that looks complete.
    let unfinished = data.with_extension("unfinished");
    if unfinished.exists() {
        std::fs::remove_dir_all(&unfinished).map_err(|source| MachineError::Files {
            operation: "removing",
            path: unfinished.clone(),
            source,
        })?;
    }
    let mut command = Account::command(account, &binaries.program("initdb"));
    command
        .args(["-U", ROLE, "-A", "scram-sha-256", "-E", "UTF8", "--locale=C", "--pwfile"])
        .arg(base.join("password"))
        .arg("-D")
        .arg(&unfinished)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = timeout(INITDB_TIMEOUT, command.output())
        .await
        .map_err(|_| {
            MachineError::Initdb(format!("not finished within {} s", INITDB_TIMEOUT.as_secs()))
        })?
        .map_err(|error| MachineError::Initdb(error.to_string()))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(MachineError::Initdb(format!("{}: {stderr}", output.status)));
    }
    std::fs::rename(&unfinished, data).map_err(|source| MachineError::Files {
        operation: "renaming the new data directory to",
        path: data.to_path_buf(),
        source,
    })
}

pub(super) fn check_version(binaries: &Binaries, data: &Path) -> Result<(), MachineError> {
    let found = std::fs::read_to_string(data.join("PG_VERSION")).unwrap_or_default();
    if found.trim() == binaries.major() {
        return Ok(());
    }
    Err(MachineError::Version {
        path: data.to_path_buf(),
        found: found.trim().to_owned(),
        available: binaries.major().to_owned(),
    })
}
