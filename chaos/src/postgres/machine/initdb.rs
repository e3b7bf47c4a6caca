//! `initdb`, and whether data fit the binaries.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::time::timeout;

use super::super::account::Account;
use super::super::binaries::Binaries;
use super::ROLE;
use super::error::MachineError;

/// Bound of `initdb`, seconds: it writes about 40 MB and waits for the disk.
const INITDB_SECONDS_MAX: Duration = Duration::from_secs(180);

pub(super) async fn initdb(
    binaries: &Binaries,
    account: Option<&Account>,
    base: &Path,
    data: &Path,
) -> Result<(), MachineError> {
    // Built aside and renamed: an initdb that was killed leaves nothing that looks like a cluster.
    let unfinished = data.with_extension("unfinished");
    if unfinished.exists() {
        std::fs::remove_dir_all(&unfinished).map_err(|source| MachineError::Files {
            doing: "removing",
            path: unfinished.clone(),
            source,
        })?;
    }
    let mut command = Account::command(account, &binaries.program("initdb"));
    command
        .args([
            "-U",
            ROLE,
            "-A",
            "scram-sha-256",
            "-E",
            "UTF8",
            "--locale=C",
            "--pwfile",
        ])
        .arg(base.join("password"))
        .arg("-D")
        .arg(&unfinished)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = timeout(INITDB_SECONDS_MAX, command.output())
        .await
        .map_err(|_| MachineError::Initdb(format!("over {} s", INITDB_SECONDS_MAX.as_secs())))?
        .map_err(|error| MachineError::Initdb(error.to_string()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(MachineError::Initdb(format!("{}: {said}", output.status)));
    }
    std::fs::rename(&unfinished, data).map_err(|source| MachineError::Files {
        doing: "renaming to",
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
        ours: binaries.major().to_owned(),
    })
}
