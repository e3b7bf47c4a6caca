//! Finds `initdb` and `postgres` and checks that the account of the server can run them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use super::account::Account;
use super::error::FailedSource;

/// Directory in which Debian and Ubuntu keep one directory for each major version.
const DEBIAN_ROOT: &str = "/usr/lib/postgresql";
/// Time limit of `postgres --version` and `pg_config --bindir`.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(20);

/// A directory with `initdb` and a `postgres` that has reported its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Binaries {
    directory: PathBuf,
    version: String,
}

impl Binaries {
    /// Returns the binaries in `PG_BIN`, else Debian's highest version, else those of
    /// `pg_config` or `PATH`.
    pub(super) async fn of_machine() -> Result<Self, FailedSource> {
        let failed = |reason: String| FailedSource {
            source: "machine",
            reason,
            fix: "install a server (Debian: apt-get install postgresql), or set PG_BIN to the \
                  directory with initdb and postgres"
                .to_owned(),
        };
        if let Some(given) = std::env::var_os("PG_BIN").filter(|given| !given.is_empty()) {
            let directory = PathBuf::from(given);
            return Self::at(&directory)
                .await
                .map_err(|reason| failed(format!("PG_BIN: {reason}")));
        }
        let mut reasons = Vec::new();
        for directory in candidates().await {
            match Self::at(&directory).await {
                Ok(binaries) => return Ok(binaries),
                Err(reason) => reasons.push(reason),
            }
        }
        Err(failed(match reasons.as_slice() {
            [] => format!(
                "no server binaries in {DEBIAN_ROOT}, in the directory of pg_config or in PATH"
            ),
            reasons => reasons.join("; "),
        }))
    }

    /// Returns the binaries in `directory`. Runs `postgres --version` as the account of the server.
    pub(super) async fn at(directory: &Path) -> Result<Self, String> {
        for program in ["initdb", "postgres"] {
            if !directory.join(program).is_file() {
                return Err(format!("{} has no {program}", directory.display()));
            }
        }
        let account = Account::for_server()?;
        let postgres = directory.join("postgres");
        let mut command = Account::command(account.as_ref(), &postgres);
        let text = output_of(command.arg("--version"))
            .await
            .map_err(|reason| format!("{} does not run: {reason}", postgres.display()))?;
        let version = text.split_whitespace().find(|word| word.starts_with(char::is_numeric));
        match version {
            Some(version) => {
                Ok(Self { directory: directory.to_path_buf(), version: version.to_owned() })
            }
            None => Err(format!("{} --version prints no version", postgres.display())),
        }
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Returns the major version. A data directory works only with its own major version.
    pub(super) fn major(&self) -> &str {
        self.version.split('.').next().unwrap_or(&self.version)
    }
}

async fn candidates() -> Vec<PathBuf> {
    let mut found = debian_versions(Path::new(DEBIAN_ROOT));
    if let Ok(text) = output_of(Command::new("pg_config").arg("--bindir")).await {
        found.push(PathBuf::from(text.trim()));
    }
    if let Some(path) = std::env::var_os("PATH") {
        found.extend(std::env::split_paths(&path));
    }
    found.retain(|directory| directory.join("initdb").is_file());
    found.dedup();
    found
}

/// Lists the `bin` directories below `root`, highest version first.
fn debian_versions(root: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(root) else {
        return Vec::new();
    };
    let mut versions: Vec<(u32, PathBuf)> = entries
        .filter_map(Result::ok)
        .filter_map(|entry| {
            let major = entry.file_name().to_str()?.split('.').next()?.parse().ok()?;
            Some((major, entry.path().join("bin")))
        })
        .collect();
    versions.sort();
    versions.into_iter().rev().map(|(_, directory)| directory).collect()
}

/// Runs a command and returns its standard output.
async fn output_of(command: &mut Command) -> Result<String, String> {
    command.kill_on_drop(true);
    let output = timeout(COMMAND_TIMEOUT, command.output())
        .await
        .map_err(|_| format!("not finished within {} s", COMMAND_TIMEOUT.as_secs()))?
        .map_err(|error| error.to_string())?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{}: {}", output.status, stderr.trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

    use super::*;

    #[test]
    fn versions_are_sorted_by_number() {
        let root = tempfile::tempdir().unwrap();
        for version in ["9.6", "15", "18", "common"] {
            std::fs::create_dir_all(root.path().join(version).join("bin")).unwrap();
        }
        let found: Vec<_> = debian_versions(root.path())
            .iter()
            .map(|path| path.strip_prefix(root.path()).unwrap().to_path_buf())
            .collect();
        assert_eq!(found, ["18/bin", "15/bin", "9.6/bin"].map(PathBuf::from));
    }

    #[tokio::test]
    async fn directory_without_a_server_names_the_missing_program() {
        let empty = tempfile::tempdir().unwrap();
        let reason = Binaries::at(empty.path()).await.unwrap_err();
        assert!(reason.ends_with("has no initdb"), "{reason}");
    }
}
